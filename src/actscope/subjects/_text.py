"""Text to tokens and tokens to text.

Letters: b batch, t tokens.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.inputs import SPECIAL, TEXT, Inputs


class Text:
    """A tokenizer of transformers or of tokenizers, seen through the latter."""

    def __init__(self, tokenizer: Any):
        self.backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not hasattr(self.backend, "encode_batch"):
            raise BadInput(f"{type(tokenizer).__name__} has no fast backend; expected a tokenizer with a tokenizer.json.")
        kept = {key: value for key, value in json.loads(self.backend.to_str()).items() if key not in ("truncation", "padding")}
        self.content = json.dumps(kept, sort_keys=True)  # what a fingerprint covers
        self.added = {int(number): token.content for number, token in self.backend.get_added_tokens_decoder().items()}
        self.special = {int(n) for n, token in self.backend.get_added_tokens_decoder().items() if token.special}
        self.byte_level = '"ByteLevel"' in json.dumps(kept.get("decoder"))
        pad = getattr(tokenizer, "pad_token_id", None)
        self.pad = pad if pad is not None else getattr(tokenizer, "eos_token_id", None) or 0

    def encode(self, texts: Sequence[str]) -> Inputs:
        """One row a text, padded on the right. roles: SPECIAL for tokens put in by the tokenizer, for special tokens
        written in the text, and for padding."""
        self.backend.no_padding()
        self.backend.no_truncation()
        rows = self.backend.encode_batch(list(texts), add_special_tokens=True)
        longest = max((len(row.ids) for row in rows), default=0)
        if longest == 0:
            raise BadInput("The text has no tokens; give at least one text that is not empty.")
        shape = (len(rows), longest)
        ids, roles = torch.full(shape, self.pad), torch.full(shape, SPECIAL)
        mask, offsets = torch.zeros(shape, dtype=torch.bool), torch.zeros(*shape, 2, dtype=torch.long)
        for index, row in enumerate(rows):
            n = len(row.ids)
            if n == 0:
                continue
            ids[index, :n] = torch.tensor(row.ids)
            special = [
                SPECIAL if put or token in self.special else TEXT
                for put, token in zip(row.special_tokens_mask, row.ids, strict=True)
            ]
            roles[index, :n] = torch.tensor(special)
            offsets[index, :n] = torch.tensor(row.offsets)
            mask[index, :n] = True
        return Inputs(ids=ids, mask=mask, roles=roles, offsets=offsets)

    def pieces(self, ids: Iterable[int] | Int[Tensor, " t"]) -> list[str]:
        """The text of each token; bytes that are no whole character are written \\xNN."""
        return [self._piece(int(number)) for number in ids]

    def written(self, ids: Iterable[int] | Int[Tensor, " t"]) -> bytes:
        """The bytes of tokens that follow each other; a character may be several tokens."""
        return b"".join(self._bytes(int(number)) for number in ids)

    def _piece(self, number: int) -> str:
        return self._bytes(number).decode("utf-8", errors="backslashreplace")

    def _bytes(self, number: int) -> bytes:
        if number in self.added:
            return self.added[number].encode()
        token = self.backend.id_to_token(number)
        if token is None:
            return f"<{number}>".encode()
        if not self.byte_level:
            return token.replace("\u2581", " ").encode()
        return bytes(_BYTE_OF[letter] for letter in token)


def _byte_letters() -> dict[str, int]:
    """The letters that byte-level BPE (GPT-2) writes for the 256 bytes: printable ones stand for themselves, the others for
    letters from 256 on, in order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(hidden)}


_BYTE_OF = _byte_letters()
