"""The n largest keys of every latent, by every path, in any pieces."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.ops import _native, keep


@pytest.fixture(params=[*_native.usable(), "off"] if _native.available() else ["off"], autouse=True)
def path(request, monkeypatch):
    if request.param == "off":
        monkeypatch.setattr(_native, "available", lambda: False)
    else:
        monkeypatch.setattr(_native, "instructions", lambda: request.param)


def brute(latent, key, document, m: int, n: int, most: int) -> list[list[int]]:
    """What must stand: by falling key, each unless its latent is full or its document has its share."""
    wanted: list[list[int]] = [[] for _ in range(m)]
    shares: dict[tuple[int, int], int] = {}
    for number in key.argsort(descending=True).tolist():
        j, whose = int(latent[number]), int(document[number])
        if len(wanted[j]) < n and (not most or shares.get((j, whose), 0) < most):
            wanted[j].append(int(key[number]))
            shares[j, whose] = shares.get((j, whose), 0) + 1
    return wanted


@given(
    m=st.integers(1, 6), n=st.integers(1, 5), e=st.integers(0, 60), documents=st.integers(1, 5), most=st.integers(0, 3),
    pieces=st.integers(1, 5), seed=st.integers(0, 10**6),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_largest_stand_and_each_knows_where(m, n, e, documents, most, pieces, seed):
    draw = torch.Generator().manual_seed(seed)
    latent, document = (torch.randint(most_, (e,), generator=draw) for most_ in (m, documents))
    key = torch.randperm(10 * e + 1, generator=draw)[:e]
    wanted = brute(latent, key, document, m, n, most)
    for take in (keep.fast, keep.reference):
        kept, beside = keep.Kept.none(m, n, documents=most > 0), torch.full((m, n), -1)
        for part in torch.arange(e).chunk(pieces):
            slot = take(kept, latent[part], key[part], document[part] if most else None, most)
            stands = slot >= 0
            beside[latent[part][stands], slot[stands]] = key[part][stands]
        assert [sorted((k for k in row if k >= 0), reverse=True) for row in kept.key.tolist()] == wanted
        assert torch.equal(beside, kept.key) or not e, "a slot was given that does not hold the entry"
        full = torch.tensor([len(row) == n for row in wanted])
        assert torch.equal(kept.least, torch.where(full, kept.key.amin(1), -1))
        if kept.document is not None:
            whose = dict(zip(key.tolist(), document.tolist(), strict=True))
            assert all(
                whose[k] == d
                for k, d in zip(kept.key.view(-1).tolist(), kept.document.view(-1).tolist(), strict=True)
                if k >= 0
            )


def test_a_latent_that_is_always_on_costs_no_more_than_its_n(monkeypatch):
    """Thousands of entries of one latent at once, beside latents with one."""
    latent = torch.cat([torch.zeros(5000, dtype=torch.long), torch.arange(1, 300)])
    key = torch.randperm(len(latent))
    kept = keep.Kept.none(300, 4)
    monkeypatch.setattr(keep, "_ROWS", 64)
    slot = keep.fast(kept, latent, key)
    assert torch.equal(kept.key[0].sort(descending=True).values, key[:5000].sort(descending=True).values[:4])
    assert int((slot >= 0).sum()) == 4 + 299
