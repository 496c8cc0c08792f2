"""A live store gives the rows of a capture without keeping them."""

import pytest
import torch
from test_alarms import Sink
from test_capture import make_texts
from tiny_subject import OUT, D, TinySubject, Z

import actscope as act
from actscope.checks.check_store import check_store
from actscope.core.errors import BadInput, EmptyCorpus, UnknownSite
from actscope.core.site import Port
from actscope.core.store import Store
from actscope.corpora.texts import texts
from actscope.stores._parts import reader
from actscope.stores.capture import capture
from actscope.stores.live import live

LISTED = [*make_texts(40), "", "a long " * 30]
SITES = [OUT, Z]


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setattr("actscope.stores.capture.UNIT", 300)
    monkeypatch.setattr("actscope.stores.live.UNIT", 300)


class Counting(TinySubject):
    def __init__(self):
        super().__init__()
        self.runs = 0

    def run(self, inputs, **rest):
        self.runs += 1
        return super().run(inputs, **rest)


@pytest.mark.parametrize("mixing", [None, 60_000])
def test_the_contract(mixing, monkeypatch):
    monkeypatch.setattr(reader, "_AHEAD", 200)
    store = live(TinySubject(), texts(LISTED), SITES, mixing=mixing, packed=mixing is None)
    assert isinstance(store, Store)
    again = live(TinySubject(), texts(LISTED), SITES, mixing=mixing, packed=mixing is None)
    check_store(store, TinySubject(), texts(LISTED), again=lambda: again)


@pytest.mark.parametrize("given", [{}, {"special": True, "grads": True}, {"start": 5, "tokens": 700}])
def test_rows_and_orders_are_to_the_bit_those_of_the_same_capture(given):
    kept, made = capture(TinySubject(), texts(LISTED), SITES, **given), live(TinySubject(), texts(LISTED), SITES, **given)
    extra = {"grads": True} if "grads" in given else {}
    for seed in (None, 3):
        for one, other in zip(
            kept.batches(SITES, 100, seed=seed, **extra), made.batches(SITES, 100, seed=seed, **extra), strict=True
        ):
            assert torch.equal(one.where, other.where)
            assert all(torch.equal(one.acts[port], other.acts[port]) for port in one.acts)
            assert not extra or all(torch.equal(one.grads[port], other.grads[port]) for port in one.grads)
    assert made.content != kept.content and torch.equal(made.text[0], kept.text[0]) and made.documents == kept.documents


def test_questions_about_the_text_run_nothing_and_a_pass_runs_each_unit_once():
    subject = Counting()
    store = live(subject, texts(LISTED), SITES, mixing=60_000)
    before = subject.runs
    store.text, store.documents, store.content, list(store.sequences(8)), store.tokens(torch.tensor([[0, 1]]), 1, 1)
    assert subject.runs == before
    once = Counting()
    capture(once, texts(LISTED), SITES)
    for batch in store.batches(SITES, 64, seed=1):
        assert len(batch)
    assert 0 < subject.runs - before <= once.runs


def test_no_more_than_the_buffer_is_held():
    store = live(TinySubject(), texts(LISTED), SITES, mixing=100_000)
    for _ in store.batches(SITES, 64, seed=0):
        assert sum(x.numel() * 4 for rows in store._rows.values() for x in rows.values()) <= 100_000
    assert len(store) * (2 * D) * 4 > 250_000


@pytest.mark.parametrize("mixing", [None, 100_000])
def test_what_is_fitted_to_it_is_what_is_fitted_to_a_capture(mixing, tmp_path):
    def fitted(store, out=None):
        sae = act.method("dictionaries", "topk")(reads={Port(OUT): D}, writes={Port(OUT): D}, n_latents=48, k=4)
        return act.fit(sae, store, act.Plan(rows=20_000, batch=256, seed=0), out=out)

    kept, made = capture(TinySubject(), texts(LISTED), [OUT]), live(TinySubject(), texts(LISTED), [OUT], mixing=mixing)
    one, other = fitted(kept), fitted(made, tmp_path / "fit")
    rows = kept.rows(torch.arange(len(kept)), [OUT]).acts[Port(OUT)]
    with torch.no_grad():
        errors = [float((sae.decode(sae.encode(rows))[Port(OUT)] - rows).square().sum()) for sae in (one, other)]
    assert (errors[0] == errors[1]) if mixing is None else (0.9 < errors[0] / errors[1] < 1.1), errors
    assert errors[0] < 0.5 * float((rows - rows.mean(0)).square().sum())


def test_what_cannot_be_is_said():
    with pytest.raises(BadInput, match="rows at layers.0.resid_post are immense.*Capture to disk, or give sinks=True"):
        live(Sink(), texts(LISTED), SITES)
    assert len(live(Sink(), texts(LISTED), SITES, sinks=True)) == len(live(TinySubject(), texts(LISTED), SITES))
    with pytest.raises(UnknownSite):
        live(TinySubject(), texts(LISTED), "layers.0.resid_pots")
    with pytest.raises(EmptyCorpus, match="no document from number 99"):
        live(TinySubject(), texts(LISTED), SITES, start=99)
    with pytest.raises(BadInput, match="mixing=0"):
        live(TinySubject(), texts(LISTED), SITES, mixing=0)

    class Sparse(TinySubject):
        def run(self, inputs, **rest):
            return super().run(inputs, **rest)._replace(valid={OUT: inputs.ids % 2 == 0})

    with pytest.raises(BadInput, match="do not reach every one of its sites.*Capture to memory or disk"):
        live(Sparse(), texts(LISTED), SITES)
