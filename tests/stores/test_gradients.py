"""Gradients beside the rows: those of each text alone, whatever the layout; kept, hashed and resumed like the rows."""

import pytest
import torch
from test_capture import SITES, make_texts
from tiny_subject import LOGITS, OUT, TinySubject, Z

from actscope.core import artifact
from actscope.core.errors import BadInput, Interrupted
from actscope.core.site import Port
from actscope.corpora.texts import texts
from actscope.stores.capture import capture
from actscope.stores.predict import predict


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setattr("actscope.stores.capture.UNIT", 300)


def alone(subject: TinySubject, text: str) -> dict:
    """Gradients of the loss of one text that fits the context, at its letters."""
    inputs = subject.prepare([text])
    acts = subject.run(inputs, read=[*SITES, LOGITS], grad=True).acts
    losses = [-acts[LOGITS][0, t].log_softmax(0)[inputs.ids[0, t + 1]] for t in range(1, len(text))]
    if not losses:
        return {site: torch.zeros(1, acts[site].flatten(2).shape[2]) for site in SITES}
    grads = torch.autograd.grad(torch.stack(losses).sum(), [acts[site] for site in SITES])
    return {site: grad[0, 1:].flatten(1) for site, grad in zip(SITES, grads, strict=True)}


@pytest.mark.parametrize("packed", [False, True])
def test_every_gradient_is_that_of_its_text_alone(packed):
    subject, listed = TinySubject(), [text[:31] for text in make_texts(30)]
    store = capture(subject, texts(listed), SITES, grads=True, packed=packed)
    rows = store.rows(torch.arange(len(store)), SITES, grads=True)
    wanted = [alone(subject, text) for text in listed]
    for site in SITES:
        expected = torch.cat([grads[site] for grads in wanted])
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(rows.grads[Port(site)], expected, rtol=1e-4, atol=1e-5)


def test_a_step_along_the_gradient_changes_the_loss_by_as_much():
    """One position's row is moved; control: a direction at right angles to the gradient."""
    subject, text = TinySubject(), "abcdefgh"
    (row,) = (
        capture(subject, texts([text]), OUT, grads=True, context=8).rows(torch.tensor([3]), [OUT], grads=True).grads.values()
    )
    inputs = subject.prepare([text])
    at = subject.run(inputs, read=[OUT]).acts[OUT].double()
    head = subject.head.double()

    def loss(shift: torch.Tensor) -> float:
        moved = at.clone()
        moved[0, 4] += shift
        chances = (torch.tanh(moved) @ head).log_softmax(-1)
        return -float(sum(chances[0, t, inputs.ids[0, t + 1]] for t in range(1, 8)))

    step = 1e-4 * torch.nn.functional.normalize(row[0].double(), dim=0)
    other = torch.randn(len(step), dtype=torch.float64)
    other = 1e-4 * torch.nn.functional.normalize(other - other @ step * step / step.square().sum(), dim=0)
    gain = (loss(step) - loss(-step)) / 2e-4
    assert gain == pytest.approx(float(row.norm()), rel=1e-3)
    assert abs(loss(other) - loss(-other)) / 2e-4 < 0.01 * gain


def test_rows_are_the_same_with_gradients_and_without(tmp_path):
    subject, corpus = TinySubject(), texts(make_texts())
    plain, memory = (capture(subject, corpus, SITES, grads=grads) for grads in (False, True))
    disk = capture(subject, corpus, SITES, grads=True, out=tmp_path / "acts")
    assert disk.content == memory.content != plain.content
    for one, other in zip(
        memory.batches(SITES, 50, seed=1, grads=True), disk.batches(SITES, 50, seed=1, grads=True), strict=True
    ):
        expected = memory.rows(torch.zeros(0, dtype=torch.long), SITES, grads=True)
        assert set(one.grads) == set(other.grads) == set(expected.grads)
        for port in one.acts:
            assert torch.equal(one.acts[port], other.acts[port]) and torch.equal(one.grads[port], other.grads[port])
    for one, other in zip(plain.batches(SITES, 50), memory.batches(SITES, 50), strict=True):
        assert one.grads is other.grads is None
        assert all(torch.equal(one.acts[port], other.acts[port]) for port in one.acts)
    size = sum(file.stat().st_size for file in (tmp_path / "acts").glob("unit-*"))
    assert predict(subject, corpus, SITES, grads=True).bytes == pytest.approx(size, rel=0.01)


def test_gradients_follow_their_rows_in_any_order():
    store = capture(TinySubject(), texts(make_texts()), Z, grads=True)
    whole = store.rows(torch.arange(len(store)), [Z], grads=True)
    place = {tuple(where): i for i, where in enumerate(whole.where.tolist())}
    for batch in store.batches([Z], 64, seed=5, grads=True):
        index = [place[tuple(where)] for where in batch.where.tolist()]
        assert torch.equal(batch.grads[Port(Z)], whole.grads[Port(Z)][index])


def test_an_interrupted_capture_ends_in_the_same_store(tmp_path, monkeypatch):
    subject, corpus = TinySubject(), texts(make_texts())
    whole = capture(subject, corpus, SITES, grads=True, out=tmp_path / "whole")
    asked = iter([False, False, True])
    monkeypatch.setattr("actscope.stores._parts.job.stop_requested", lambda: next(asked, False))
    with pytest.raises(Interrupted):
        capture(subject, corpus, SITES, grads=True, out=tmp_path / "cut")
    with pytest.raises(BadInput, match="grads=True there, None given"):
        capture(subject, corpus, SITES, out=tmp_path / "cut")
    assert capture(subject, corpus, SITES, grads=True, out=tmp_path / "cut").content == whole.content
    assert artifact.open(tmp_path / "cut").content == whole.content


def test_gradients_that_are_not_there_are_refused():
    store = capture(TinySubject(), texts(make_texts()), Z)
    with pytest.raises(BadInput, match="holds no gradients; capture again with grads=True"):
        store.batches([Z], 10, grads=True)
    with pytest.raises(BadInput, match="holds no gradients"):
        store.rows(torch.tensor([0]), [Z], grads=True)
