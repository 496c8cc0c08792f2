"""A model placed by transformers over several devices. Here is one device, so what a spread model has more than another, the
hooks that carry tensors between devices, is put on by hand; that several accelerators hold it is not seen here."""

import importlib.util

import pytest
import torch

from actscope.core.change import Change
from actscope.core.errors import BadInput, MissingExtra
from actscope.core.intervention import Add
from actscope.core.site import Site
from actscope.subjects import load as module
from actscope.subjects.hf import HFSubject
from actscope.subjects.load import load

IDS = torch.arange(1, 25).view(2, 12)
SITES = ["layers.0.mlp_out", "layers.1.resid_post", "layers.1.z", "layers.0.attn_pattern"]
needs_accelerate = pytest.mark.skipif(importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed")


def test_without_accelerate_it_says_what_to_type(monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install 'actscope\\[large\\]'"):
        load("pocket-mini", device="auto")


@needs_accelerate
def test_placed_by_transformers_it_reads_the_same():
    plain, placed = load("pocket-mini"), load("pocket-mini", device="auto")
    assert placed.fingerprint == plain.fingerprint
    same(plain, placed)


@needs_accelerate
def test_with_the_hooks_of_a_spread_model_reading_writing_and_changing_are_the_same():
    from accelerate import dispatch_model

    plain, spread = load("pocket-mini"), load("pocket-mini")
    before = HFSubject(dispatch_model(spread.model, {"": "cpu"}, force_hooks=True), spread.tokenizer, "spread")
    assert any("_old_forward" in vars(inner) for inner in before.model.modules())
    same(plain, before)
    add = Add(Site.parse("layers.0.mlp_out"), torch.ones(64))
    change = Change((add,), {name: _doubled(x) for name, x in plain.weights().items() if name.endswith("dense_4h_to_h.weight")})
    same(plain.changed(change), before.changed(change))
    same(plain, before)  # the changed one is another


@needs_accelerate
def test_what_would_be_fetched_at_every_run_is_refused(monkeypatch, tmp_path):
    from accelerate import disk_offload

    taken = load("pocket-mini").model
    disk_offload(taken, tmp_path, execution_device=torch.device("cpu"))
    with pytest.raises(BadInput, match="have no room for"):
        module._check_placed(taken, "pocket-mini")


def _doubled(x: torch.Tensor):
    from actscope.core.change import Delta

    return Delta(2 * x, replaces=True)


def same(one, other) -> None:
    for write in ([], [Add(Site.parse("layers.0.resid_post"), torch.full((64,), 0.5))]):
        a, b = (subject.run(IDS, read=[*SITES, "logits"], write=write).acts for subject in (one, other))
        for site in a:
            assert torch.equal(a[site], b[site]), site
    assert torch.equal(one.run(IDS).logits, other.run(IDS).logits) and Site("logits") in a
