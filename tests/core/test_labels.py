"""Labels say what holds where, from spans of characters."""

import torch

from actscope.core.corpus import Document, Span
from actscope.core.labels import Labels, labels_of


def test_a_token_holds_every_cause_whose_characters_it_has():
    document = Document("d", "ab cd ef", (Span(0, 5, "left"), Span(3, 5, "middle")))
    labels = labels_of([(7, document, [(0, 0), (0, 2), (2, 5), (5, 8)])])  # a special token, then " cd" and " ef"
    where = torch.tensor([[7, 0], [7, 1], [7, 2], [7, 3], [6, 1], [8, 2]])
    found = labels.at(where)
    assert found["left"].tolist() == [False, True, True, False, False, False]
    assert found["middle"].tolist() == [False, False, True, False, False, False]


def test_lookup_is_membership():
    generator = torch.Generator().manual_seed(0)
    places = torch.randint(0, 40, (500, 2), generator=generator)
    key = places[:, 0] * 2**32 + places[:, 1]
    labels = Labels({"some": torch.unique(key[:200]), "nowhere": torch.tensor([], dtype=torch.long)})
    found = labels.at(places)
    assert torch.equal(found["some"], torch.isin(key, key[:200])) and not found["nowhere"].any()
    assert labels.at(places[:0])["some"].shape == (0,)
