"""fvu, l0 and dead_share against closed forms and their invariances."""

import pytest
import torch
from fakes import PORT, SITE, Linear, Rows, constant, perfect

from actscope.core.codes import Codes
from actscope.core.errors import BadInput, NotFinite, UnknownSite
from actscope.core.site import Port
from actscope.scores._parts import census as census_file
from actscope.scores._parts.census import Census
from actscope.scores.dictionary.dead_share import dead_share
from actscope.scores.dictionary.fvu import fvu
from actscope.scores.dictionary.l0 import l0


def normal(n: int, d: int, seed: int = 0, mean: float = 0.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + mean


def noisy(x: torch.Tensor, scale: float = 1.0) -> Linear:
    """Rebuilds 0.6 of the positive part of each coordinate, plus a bias."""
    d = x.shape[1]
    return Linear(torch.eye(d), 0.6 * torch.eye(d), torch.full((d,), 0.1 * scale))


def test_a_perfect_reconstruction_leaves_nothing_unexplained():
    score = fvu(perfect(6), Rows({SITE: normal(95, 6)}))
    assert score.value == 0 and score.interval == (0.0, 0.0) and score.n == 95


def test_the_mean_leaves_everything_unexplained_however_far_from_zero():
    x = normal(95, 6, mean=50.0)
    assert fvu(constant(x.mean(0)), Rows({SITE: x})).value == pytest.approx(1.0, abs=1e-6)
    assert fvu(constant(torch.zeros(6)), Rows({SITE: x})).value > 1000  # from zero this would be called 1


def test_it_is_the_textbook_ratio_on_every_batch_size(monkeypatch):
    x = normal(103, 5, mean=2.0)
    dictionary = noisy(x)
    rebuilt = dictionary.decode(dictionary.encode(x))[PORT]
    expected = float((x - rebuilt).pow(2).sum() / (x - x.mean(0)).pow(2).sum())
    for rows in (103, 64, 7, 1):  # whole, ragged last batches, single rows
        monkeypatch.setattr(census_file.row_batches, "__defaults__", (None, rows))
        assert fvu(dictionary, Rows({SITE: x})).value == pytest.approx(expected, rel=1e-6)
        assert l0(dictionary, Rows({SITE: x})).value == pytest.approx(float((x > 0).sum(1).float().mean()))


def test_scaling_and_rotation_change_nothing():
    x = normal(80, 4, mean=1.0)
    turn, _ = torch.linalg.qr(normal(4, 4, seed=3))
    plain = fvu(noisy(x), Rows({SITE: x}))
    scaled = fvu(noisy(x, 7.0), Rows({SITE: 7 * x}))
    turned = fvu(Linear(turn.T, 0.6 * turn, 0.1 * turn.sum(0)), Rows({SITE: x @ turn}))
    assert scaled.value == pytest.approx(plain.value, rel=1e-5)
    assert turned.value == pytest.approx(plain.value, rel=1e-5)


def test_a_transcoder_is_judged_where_it_writes():
    x = normal(50, 4)
    other = "layers.0.mlp_out"
    dictionary = perfect(4, reads=SITE, writes=other)
    assert fvu(dictionary, Rows({SITE: x, other: x})).value == 0
    score = fvu(dictionary, Rows({SITE: x, other: 2 * x}))
    assert score.value == pytest.approx(float(x.pow(2).sum() / (2 * (x - x.mean(0))).pow(2).sum()), rel=1e-6)
    assert set(score.parts) == {f"fvu:{other}"}
    with pytest.raises(UnknownSite, match="mlp_out"):
        fvu(dictionary, Rows({SITE: x}))


def test_several_ports_are_pooled_and_shown_apart():
    left, right = normal(40, 3), 10 * normal(40, 3, seed=1)
    ports = [Port.parse(SITE), Port.parse("layers.1.resid_post")]

    class Two(Linear):
        def __init__(self):
            super().__init__(torch.eye(3), torch.eye(3), torch.zeros(3))
            self.reads = dict.fromkeys(ports, 3)
            self.writes = self.reads

        def encode(self, x, *, grads=None):
            return Codes.from_dense(x[ports[0]])

        def decode(self, codes, x=None):
            return {ports[0]: codes.dense(), ports[1]: torch.zeros(len(codes), 3)}

    score = fvu(Two(), Rows({str(ports[0]): left, str(ports[1]): right}))
    spread = [float((x - x.mean(0)).pow(2).sum()) for x in (left, right)]
    assert score.value == pytest.approx(float(right.pow(2).sum()) / sum(spread), rel=1e-5)
    assert score.parts[f"fvu:{ports[0]}"] == 0 and score.parts[f"fvu:{ports[1]}"] == pytest.approx(1, abs=0.1)


def test_the_interval_is_over_documents_not_rows():
    """The same rows in fewer, longer, unlike documents are less certain."""
    level = torch.arange(8.0).repeat_interleave(50)[:, None]
    x = normal(400, 4) * (1 + level)
    dictionary = Linear(torch.eye(4), torch.eye(4), torch.zeros(4)).eval()
    dictionary.bias = torch.full((4,), 1.0)

    def width(length: int) -> float:
        low, high = fvu(dictionary, Rows({SITE: x}, length=length)).interval
        return high - low

    assert width(50) > 1.5 * width(1)
    assert fvu(dictionary, Rows({SITE: x}, length=400)).interval is None  # one document has no interval


def test_dead_latents_are_those_that_never_fire_on_the_rows_counted():
    x = torch.tensor([[1.0, -1.0, 0.0], [2.0, -3.0, 0.0], [-1.0, -2.0, 0.0]])
    store = Rows({SITE: x}, length=1)
    dictionary = Linear(torch.eye(3), torch.eye(3), torch.zeros(3))
    score = dead_share(dictionary, store)
    assert score.value == pytest.approx(2 / 3) and score.parts["dead"] == 2 and score.n == 3
    assert dead_share(dictionary, store, documents=[2]).value == 1
    assert l0(dictionary, store).value == pytest.approx(2 / 3)


def test_only_the_documents_asked_for_count():
    x = normal(40, 3)
    store = Rows({SITE: x}, length=10)
    part = Rows({SITE: x[10:30]}, length=10)
    assert fvu(noisy(x), store, documents=iter([1, 2])).value == pytest.approx(fvu(noisy(x), part).value, rel=1e-9)
    with pytest.raises(BadInput, match="at least one row"):
        l0(noisy(x), store, documents=[99])


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(BadInput, match="no variance"):
        fvu(perfect(3), Rows({SITE: torch.ones(20, 3)}))
    with pytest.raises(NotFinite):
        Census.of(constant(torch.tensor([float("nan"), 0.0])), Rows({SITE: normal(20, 2)}))
