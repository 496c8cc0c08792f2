"""Rows kept as fewer bytes: each format errs by no more than its number of bits says, and what does not fit is said."""

import pytest
import torch
from test_capture import make_texts
from tiny_subject import OUT, TinySubject, Z

from actscope.checks.check_store import check_store
from actscope.core import artifact
from actscope.core.errors import BadInput, NotFinite
from actscope.core.site import Port
from actscope.corpora.texts import texts
from actscope.stores._parts import formats
from actscope.stores.capture import capture
from actscope.stores.disk import DiskStore
from actscope.stores.predict import predict
from actscope.stores.repair import repair

SITES = [OUT, Z]
LISTED = make_texts(30)


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setattr("actscope.stores.capture.UNIT", 300)


class Times(TinySubject):
    """Every activation so many times as large."""

    def __init__(self, by: float):
        super().__init__()
        self.by, self.fingerprint = by, f"{by}" * 8

    def run(self, inputs, **rest):
        run = super().run(inputs, **rest)
        return run._replace(acts={site: x * self.by for site, x in run.acts.items()})


def every(store):
    return store.rows(torch.arange(len(store)), SITES)


@pytest.fixture
def exact(small_units):
    return every(capture(TinySubject(), texts(LISTED), SITES))


@pytest.mark.parametrize("dtype, most, rms", [("float32", 0, 0), ("bfloat16", 2**-8, 2**-9), ("float16", 2**-11, 2**-12)])
def test_a_number_is_off_by_no_more_than_its_last_bit(exact, dtype, most, rms):
    found = every(capture(TinySubject(), texts(LISTED), SITES, dtype=dtype))
    assert torch.equal(found.where, exact.where)
    for port, x in exact.acts.items():
        assert found.acts[port].dtype == torch.float32
        off = (found.acts[port] - x).abs()
        assert (off <= most * x.abs() + 2**-25).all()
        relative = float(off.square().mean().sqrt() / x.square().mean().sqrt())
        assert relative <= rms and (relative > rms / 8 or not rms), relative


def test_int8_is_off_by_at_most_half_a_level_of_its_row(exact):
    found = every(capture(TinySubject(), texts(LISTED), SITES, dtype="int8"))
    for port, x in exact.acts.items():
        off, largest = (found.acts[port] - x).abs(), x.abs().amax(1, keepdim=True)
        assert (off <= largest / 254 * 1.001).all()
        spread = float((off / (largest / 127)).square().mean().sqrt())
        assert 0.9 * 12**-0.5 < spread < 1.02 * 12**-0.5, "the error is not that of rounding to the nearest level"


def test_a_row_of_zeros_and_a_tiny_row_come_back():
    x = torch.stack([torch.zeros(4), torch.tensor([1e-30, -2e-30, 0, 1e-31]), torch.tensor([1.0, -127, 63.5, 0])])
    kept = formats.stored("p", x, "int8")
    found = formats.back(kept["acts.p"], kept["scale.p"])
    assert (found[0] == 0).all() and torch.allclose(found[2], torch.tensor([1.0, -127, 64, 0]))
    torch.testing.assert_close(found[1], x[1], rtol=0, atol=2e-30 / 250)


@pytest.mark.parametrize("out", [True, False])
def test_what_float16_cannot_hold_is_named_and_other_formats_hold_it(tmp_path, out):
    large, given = Times(1e5), {"out": tmp_path / "s"} if out else {}
    with pytest.raises(NotFinite, match=r"resid_post is -?[\d.e+]* at token 1 of document 'texts:0.*65,504.*bfloat16, int8"):
        capture(large, texts(LISTED), SITES, dtype="float16", **given)
    for number, dtype in enumerate(("bfloat16", "int8", "float32")):
        given = {"out": tmp_path / str(number)} if out else {}
        assert every(capture(large, texts(LISTED), SITES, dtype=dtype, **given)).acts[Port(OUT)].isfinite().all()
    assert len(capture(Times(1e3), texts(LISTED), SITES, dtype="float16"))  # the control: the same numbers, smaller


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int8"])
def test_the_contract_holds_in_every_format_but_for_rounding(tmp_path, dtype, monkeypatch):
    monkeypatch.setattr("actscope.checks.check_store._close", lambda found, expected, what: None)
    monkeypatch.setattr(DiskStore, "_fits", False)
    made = capture(TinySubject(), texts(LISTED), SITES, dtype=dtype, out=tmp_path / "s")
    check_store(made, TinySubject(), texts(LISTED), again=lambda: capture(TinySubject(), texts(LISTED), SITES, dtype=dtype))


def test_the_format_is_part_of_the_content_and_of_the_settings(tmp_path):
    made = {dtype: capture(TinySubject(), texts(LISTED), SITES, dtype=dtype).content for dtype in (None, *formats.FORMATS)}
    assert len(set(made.values())) == 5
    capture(TinySubject(), texts(LISTED), SITES, dtype="int8", out=tmp_path / "s")
    with pytest.raises(BadInput, match="dtype=int8 there, float16 given"):
        capture(TinySubject(), texts(LISTED), SITES, dtype="float16", out=tmp_path / "s")
    with pytest.raises(BadInput, match="dtype=int8 there, None given"):
        capture(TinySubject(), texts(LISTED), SITES, out=tmp_path / "s")
    with pytest.raises(BadInput, match="dtype='int4' was given; rows are kept as float32, bfloat16, float16, int8"):
        capture(TinySubject(), texts(LISTED), SITES, dtype="int4")


@pytest.mark.parametrize("dtype", [None, "bfloat16", "int8"])
def test_gradients_stay_as_the_model_gives_them(dtype):
    plain = capture(TinySubject(), texts(LISTED), SITES, grads=True)
    kept = capture(TinySubject(), texts(LISTED), SITES, grads=True, dtype=dtype)
    rows = torch.arange(len(plain))
    one, other = (store.rows(rows, SITES, grads=True) for store in (plain, kept))
    assert all(torch.equal(one.grads[port], other.grads[port]) for port in one.grads)
    assert dtype is None or any(not torch.equal(one.acts[port], other.acts[port]) for port in one.acts)


@pytest.mark.parametrize("grads", [False, True])
@pytest.mark.parametrize("dtype", [None, "float16", "int8"])
def test_bytes_are_predicted_in_every_format(tmp_path, dtype, grads, monkeypatch):
    monkeypatch.setattr("actscope.stores.predict.UNIT", 300)
    plan = predict(TinySubject(), texts(LISTED), SITES, dtype=dtype, grads=grads)
    store = capture(TinySubject(), texts(LISTED), SITES, dtype=dtype, grads=grads, out=tmp_path / "s")
    real = sum(path.stat().st_size for path in (tmp_path / "s").glob("unit-*"))
    assert plan.rows == len(store) and abs(plan.bytes / real - 1) < 0.1


def test_any_flipped_bit_of_an_int8_store_is_found_and_repaired(tmp_path):
    out = tmp_path / "s"
    store = capture(TinySubject(), texts(LISTED), SITES, dtype="int8", out=out)
    draw = torch.Generator().manual_seed(0)
    for path in sorted(out.glob("unit-*")):
        for _ in range(4):
            data = bytearray(before := path.read_bytes())
            data[int(torch.randint(len(data), (1,), generator=draw))] ^= 1 << int(torch.randint(8, (1,), generator=draw))
            path.write_bytes(data)
            assert list(artifact.damaged(out)) == [path.name]
            assert repair(out, TinySubject(), texts(LISTED)) == [path.name]
            assert path.read_bytes() == before
    assert DiskStore(out).content == store.content and not artifact.damaged(out)
