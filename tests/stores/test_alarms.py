"""What is wrong with the rows is found while they are captured: sinks stand apart, and what cannot be right is said."""

import pytest
import torch
from test_capture import Stop, make_texts, stop_after
from tiny_subject import EMBED, OUT, TinySubject, Z

from actscope.checks.check_store import check_store
from actscope.core.errors import BadInput, EmptyCorpus
from actscope.core.inputs import SPECIAL
from actscope.core.site import Port
from actscope.corpora.texts import texts
from actscope.stores.capture import capture
from actscope.stores.disk import DiskStore
from actscope.stores.repair import repair

LISTED = make_texts(60)
SITES = [OUT, Z]


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setattr("actscope.stores.capture.UNIT", 300)


class Sink(TinySubject):
    """The first letter of a sequence is so many times as long as it would be; `late`: only in a document that has a z."""

    def __init__(self, by: float = 100.0, late: str = ""):
        super().__init__()
        self.by, self.late, self.fingerprint = by, late, f"sink {by} {late}"

    def run(self, inputs, **rest):
        run = super().run(inputs, **rest)
        at = torch.ones(len(inputs.ids), dtype=torch.bool)
        if self.late:
            at = (inputs.ids == ord(self.late) + 1).any(1)
        acts = {site: x.clone() for site, x in run.acts.items()}
        acts[OUT][at, 1] *= self.by
        return run._replace(acts=acts)


def test_planted_sinks_stand_apart_and_the_other_rows_are_what_they_would_be_without():
    plain, made = (capture(subject, texts(LISTED), SITES) for subject in (TinySubject(), Sink()))
    _, where = plain.text
    first = where[:, 1] % 31 == 1  # a piece has the special token and 31 letters
    found = made.rows(torch.arange(len(made)), SITES)
    assert torch.equal(made.text[1], where[~first]) and len(made) == int((~first).sum())
    expected = plain.rows((~first).nonzero().flatten(), SITES)
    assert all(torch.equal(found.acts[port], x) for port, x in expected.acts.items())
    apart = made.apart(SITES)
    assert torch.equal(apart.where, where[first])
    there = plain.rows(first.nonzero().flatten(), SITES)
    torch.testing.assert_close(apart.acts[Port(OUT)], 100 * there.acts[Port(OUT)])
    assert torch.equal(apart.acts[Port(Z)], there.acts[Port(Z)])


def test_the_alarm_says_where_how_many_and_how_much_of_the_variance():
    made = capture(Sink(), texts(LISTED), SITES)
    (alarm,) = made.alarms
    rows, apart = (x.acts[Port(OUT)].double() for x in (made.rows(torch.arange(len(made)), [OUT]), made.apart([OUT])))
    far, near = ((x - rows.mean(0)).square().sum() for x in (apart, rows))
    assert (alarm.port, alarm.rows, alarm.of) == (str(OUT), len(apart), len(apart) + len(rows))
    assert abs(alarm.variance - float(far / (far + near))) < 1e-6 and alarm.variance > 0.9
    words = str(alarm)
    assert words.startswith("layers.0.resid_post: ") and "stand at position 1 of" in words and "sinks=True" in words


@pytest.mark.parametrize("by", [1.0, 8.0])
def test_a_model_without_sinks_has_the_bytes_it_has_when_nobody_looks(by):
    made, kept = (capture(Sink(by), texts(LISTED), SITES, sinks=sinks) for sinks in (False, True))
    assert not made.alarms and len(made.apart(SITES)) == 0 and len(made) == sum(map(len, LISTED))
    assert set(kept.settings) - set(made.settings) == {"sinks"}
    assert all(one.keys() == other.keys() for one, other in zip(made._held, kept._held, strict=True))


def test_asked_to_keep_them_they_are_rows_like_others():
    kept = capture(Sink(), texts(LISTED), SITES, sinks=True)
    assert len(kept) == sum(map(len, LISTED)) and not kept.alarms
    length = kept.rows(torch.arange(len(kept)), [OUT]).acts[Port(OUT)].norm(dim=1)
    assert float(length.max() / length.median()) > 50


@pytest.mark.parametrize("dtype", [None, "int8"])
@pytest.mark.parametrize("late", ["", "z"])
def test_stores_with_rows_apart_keep_the_contract_in_memory_and_on_disk(tmp_path, late, dtype, monkeypatch):
    if dtype:
        monkeypatch.setattr("actscope.checks.check_store._close", lambda found, expected, what: None)
    subject = Sink(late=late)
    made = capture(subject, texts(LISTED), SITES, dtype=dtype)
    on_disk = capture(subject, texts(LISTED), SITES, dtype=dtype, out=tmp_path / "s")
    check_store(on_disk, subject, texts(LISTED), again=lambda: made)
    assert on_disk.alarms == made.alarms and len(on_disk.alarms) == 1
    assert torch.equal(on_disk.apart([OUT]).acts[Port(OUT)], made.apart([OUT]).acts[Port(OUT)])


@pytest.mark.parametrize("late", ["", "z"])
def test_stopped_repaired_or_begun_later_the_limit_is_the_same(tmp_path, late):
    subject, out = Sink(late=late), tmp_path / "s"
    expected = capture(subject, texts(LISTED), SITES).content
    with pytest.raises(Stop):
        capture(subject, texts(LISTED), SITES, out=out, progress=stop_after(2))
    assert capture(subject, texts(LISTED), SITES, out=out).content == expected
    last = sorted(out.glob("unit-*"))[-1]
    last.write_bytes(b"damaged")
    assert repair(out, subject, texts(LISTED)) == [last.name] and DiskStore(out).content == expected


def test_float16_holds_a_store_whose_sinks_it_could_not():
    assert len(capture(Sink(1e5), texts(LISTED), SITES, dtype="float16").apart([OUT])) > 0


@pytest.mark.parametrize("out", [True, False])
def test_a_site_that_never_fires_is_refused_by_name(tmp_path, out):
    class Silent(TinySubject):
        def run(self, inputs, **rest):
            run = super().run(inputs, **rest)
            return run._replace(acts={site: x * 0 if site == Z else x for site, x in run.acts.items()})

    given = {"out": tmp_path / "s"} if out else {}
    with pytest.raises(BadInput, match=r"layers.0.z is zero at all \d+ tokens of the first unit.*Leave it out"):
        capture(Silent(), texts(LISTED), SITES, **given)
    assert len(capture(Silent(), texts(LISTED), [OUT], **given))  # the control: the other site


@pytest.mark.parametrize("what", ["mask", "roles"])
def test_text_whose_tokens_are_all_masked_or_special_is_refused(what):
    class Blind(TinySubject):
        def prepare(self, raw):
            inputs = super().prepare(raw)
            none = torch.zeros_like(inputs.mask) if what == "mask" else torch.full_like(inputs.roles, SPECIAL)
            return inputs._replace(**{what: none})

    short = [text[:30] for text in LISTED]
    with pytest.raises(EmptyCorpus, match="no token of text in them for tiny: all are special or masked.*special=True"):
        capture(Blind(), texts(short), [OUT])
    if what == "roles":
        with pytest.raises(EmptyCorpus, match="All .* tokens of document number .* are special"):
            capture(Blind(), texts(LISTED), [OUT])
    assert len(capture(TinySubject(), texts(LISTED), [OUT])) == sum(map(len, LISTED))
    if what == "roles":
        assert len(capture(Blind(), texts(short), [EMBED], special=True))
