"""The reproduction of PCA-RAG on a small scale: its figures mean what they say."""

import pytest
import torch
from torch.nn import functional

from actscope.reproductions import pca_rag as module
from actscope.reproductions.pca_rag import pca_rag


def test_relevance_is_planted_in_as_many_dimensions_as_said():
    vectors = module._planted(0, 2_000, 40, 128, 5)
    spread = torch.linalg.svdvals(vectors.documents)
    assert spread[4] > 10 * spread[5]  # five directions, and noise
    near = functional.normalize(vectors.queries, dim=1) @ functional.normalize(vectors.documents, dim=1).T
    found = near.topk(10, dim=1).indices
    share = (found[:, :, None] == vectors.relevant[:, None]).any(2).float().mean()
    assert 0.5 < share < 1  # the noise hides some of it from the whole vectors
    even = torch.linalg.svdvals(module._planted(0, 2_000, 40, 128, 128).documents)
    assert even[0] < 2 * even[-1]


def test_principal_directions_keep_what_is_planted_and_random_ones_do_not():
    result = pca_rag(seeds=(0,), documents=4_000, queries=50, rounds=3, draws=3)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert mean["directions"] == 20 and mean["times smaller"] == pytest.approx(4_000 * 512 / (4_000 * 20 + 21 * 512), rel=1e-4)
    assert (
        result.ours == mean["kept by principal directions"] > 0.95 > 0.5 > mean["kept by random directions"] == result.baseline
    )
    assert result.ours == pytest.approx(mean["recall of principal directions"] / mean["recall of the whole vectors"])
    assert result.control == mean["kept by principal directions without planted dimensions"] < 0.2
    assert mean["recall of the whole vectors without planted dimensions"] > 0.5
    assert min(mean["times faster"], mean["times faster in processor time"]) > 1 and mean["milliseconds of the whole index"] > 0
    assert not result.holds  # what all vectors share weighs too much beside so few of them


def test_directions_are_chosen_without_looking_at_relevance(monkeypatch):
    monkeypatch.setattr(module, "RANKS", (2, 5, 8))
    vectors = module._planted(1, 1_000, 60, 128, 5)
    monkeypatch.setattr(module, "SMALLER", 8.0)
    found, index = module._measured(vectors, 1, 2)
    vectors.relevant[:30] = 0
    assert module._measured(vectors, 1, 2)[0] == found and found["directions"] == index.width >= 5
