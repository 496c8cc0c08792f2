"""A label that any model of text has: the letter its token begins with (Chanin et al. 2024, arXiv:2409.14507)."""

import torch

from actscope.core.labels import Labels
from actscope.core.store import Store
from actscope.core.subject import Subject


def first_letters(store: Store, subject: Subject) -> Labels:
    """Cause "letter.a" holds at tokens that are a word, or the part of one, of letters alone that begins with a or A."""
    ids, where = store.text
    keys = where[:, 0].long() * 2**32 + where[:, 1].long()
    words = [piece.strip().lower() for piece in subject.pieces(range(int(ids.max()) + 1))] if len(ids) else []
    letter = torch.tensor([ord(word[0]) if word.isascii() and word.isalpha() else 0 for word in words])
    each = letter[ids.long()]
    return Labels({f"letter.{chr(code)}": keys[each == code].sort().values for code in each.unique().tolist() if code})
