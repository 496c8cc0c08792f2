"""Capture: every row is what the subject computes there, whatever the layout; and whatever cannot be is said."""

import json
import os
import subprocess
import sys

import pytest
import torch
from tiny_subject import EMBED, OUT, TinySubject, Z

from actscope.core import artifact, lock, progress
from actscope.core.errors import BadInput, EmptyCorpus, Interrupted, NotFinite, UnknownSite, WrongSubject
from actscope.core.inputs import SPECIAL, TEXT
from actscope.core.site import Port, Site
from actscope.corpora.texts import texts
from actscope.stores._parts import pieces
from actscope.stores.capture import capture
from actscope.stores.disk import DiskStore

SITES = [OUT, Z]


def make_texts(n: int = 60, seed: int = 0) -> list[str]:
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 90, (n,), generator=draw).tolist()
    return ["".join(chr(97 + int(c)) for c in torch.randint(26, (length,), generator=draw)) for length in lengths]


@pytest.fixture
def small_units(monkeypatch):

    monkeypatch.setattr("actscope.stores.capture.UNIT", 300)


def test_every_row_is_what_the_subject_computes_there(small_units):
    subject, listed = TinySubject(), make_texts(15)
    store = capture(subject, texts(listed), SITES)
    rows = store.rows(torch.arange(len(store)), SITES)
    at = 0
    for number, text in enumerate(listed):
        inputs = subject.prepare([text])
        for first in range(0, len(text), subject.context - 1):  # each piece: the special token, then 31 letters
            ids = torch.cat([inputs.ids[:, :1], inputs.ids[:, 1 + first : first + subject.context]], dim=1)
            run = subject.run(inputs._replace(ids=ids, mask=None, roles=None), read=SITES)
            here = slice(at, at := at + ids.shape[1] - 1)
            assert rows.where[here].tolist() == [[number, 1 + first + i] for i in range(ids.shape[1] - 1)]
            for site in SITES:
                expected = run.acts[site][0, 1:].flatten(1)
                torch.testing.assert_close(rows.acts[Port(site)][here], expected, rtol=1e-5, atol=1e-5)
    assert at == len(store) == sum(map(len, listed))


@pytest.mark.parametrize("end", [False, True])
def test_packing_changes_the_layout_and_not_the_rows(small_units, end):
    subject, listed = TinySubject(end=end), make_texts()
    apart, packed = (capture(subject, texts(listed), SITES, packed=packed) for packed in (False, True))
    one, other = (store.rows(torch.arange(len(store)), SITES) for store in (apart, packed))
    assert torch.equal(one.where, other.where)
    for port in one.acts:
        torch.testing.assert_close(one.acts[port], other.acts[port], rtol=1e-5, atol=1e-5)
    units = list(pieces.planned(subject, texts(listed), 0, 32, 300))
    runs = [sum(len(row) for batch in pieces.layout(unit.pieces, 32, True) for row in [batch]) for unit in units]
    alone = [sum(len(row) for batch in pieces.layout(unit.pieces, 32, False) for row in [batch]) for unit in units]
    assert sum(runs) < 0.9 * sum(alone), "packing saves no rows"


def test_leaking_across_packed_documents_would_be_seen(small_units):
    class Leaky(TinySubject):
        def run(self, inputs, **rest):
            return super().run(inputs._replace(document=None), **rest)

    listed = make_texts()
    apart, packed = (capture(Leaky(), texts(listed), [OUT], packed=packed) for packed in (False, True))
    one, other = (store.rows(torch.arange(len(store)), [OUT]).acts[Port(OUT)] for store in (apart, packed))
    assert float((one - other).abs().max()) > 0.1


def test_special_tokens_have_a_row_only_when_asked_for_and_only_their_own():
    listed = ["abc", "d" * 100]
    store = capture(TinySubject(end=True), texts(listed), [OUT], special=True)
    assert store.text[1].tolist() == [[0, i] for i in range(5)] + [[1, i] for i in range(102)]
    batch = store.rows(torch.tensor([0, 1, 4, 5, 106]), [OUT])
    assert batch.roles.tolist() == [SPECIAL, TEXT, SPECIAL, SPECIAL, SPECIAL]
    without = capture(TinySubject(end=True), texts(listed), [OUT])
    assert len(without) == 103 and without.rows(torch.tensor([0]), [OUT]).roles is None


def test_tokens_is_a_limit_in_rows_that_stops_at_a_unit(small_units):
    whole = capture(TinySubject(), texts(make_texts()), [OUT])
    part = capture(TinySubject(), texts(make_texts()), [OUT], tokens=700)
    assert 700 <= len(part) < 700 + 400 < len(whole)
    assert torch.equal(part.text[1], whole.text[1][: len(part)])


def test_start_skips_documents_and_keeps_their_numbers(small_units):
    store = capture(TinySubject(), texts(make_texts()), [OUT], start=40)
    assert min(store.documents) == 40 and int(store.text[1][:, 0].min()) == 40


def test_one_head_is_a_port_of_its_own():
    store = capture(TinySubject(), texts(make_texts(5)), [Site("z", 0, part=1), Z])
    rows = store.rows(torch.arange(len(store)), ["layers.0.z", "layers.0.z[1]"])
    assert torch.equal(rows.acts[Port.parse("layers.0.z[1]")], rows.acts[Port(Z)][:, 8:16])
    assert store.ports == {Port.parse("layers.0.z[1]"): 8, Port(Z): 24}


def test_rows_that_a_site_does_not_reach_are_left_out():
    class Sparse(TinySubject):
        def run(self, inputs, **rest):
            run = super().run(inputs, **rest)
            return run._replace(valid={OUT: inputs.ids % 2 == 0})

    store = capture(Sparse(), texts(make_texts(9)), [OUT])
    ids, where = store.text
    assert (ids % 2 == 0).all() and 0 < len(store) < sum(map(len, make_texts(9)))
    assert torch.equal(store.tokens(where, 0, 0)[:, 0], ids)


def test_memory_and_disk_hold_the_same_bytes(small_units, tmp_path):
    corpus = texts(make_texts())
    on_disk, in_memory = capture(TinySubject(), corpus, SITES, out=tmp_path / "s"), capture(TinySubject(), corpus, SITES)
    assert len(on_disk.parts) > 3 and on_disk.content == in_memory.content
    assert capture(TinySubject(), corpus, SITES, out=tmp_path / "s").content == on_disk.content


class Stop(Exception):
    pass


def stop_after(units: int):
    seen = []

    def show(done, total, note):
        seen.append(done)
        if len(seen) > units:
            raise Stop

    return show


@pytest.mark.parametrize("units", [0, 1, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_stopped_anywhere_the_same_call_ends_in_the_same_content(small_units, tmp_path, units, packed):
    corpus, out = texts(make_texts()), tmp_path / "s"
    expected = capture(TinySubject(), corpus, SITES, packed=packed).content
    with pytest.raises(Stop):
        capture(TinySubject(), corpus, SITES, packed=packed, out=out, progress=stop_after(units))
    with pytest.raises(BadInput, match="unfinished.*run its command again"):
        DiskStore(out)
    done = artifact.read_manifest(out)["rows"]
    counted = []
    store = capture(TinySubject(), corpus, SITES, packed=packed, out=out, progress=lambda done, *_: counted.append(done))
    assert store.content == expected
    assert counted[0] > done and (units == 0 or done > 0), "committed units are captured again"
    assert not list(out.glob(".*"))


def test_a_request_to_stop_commits_and_says_so(small_units, tmp_path, monkeypatch):
    corpus, out = texts(make_texts()), tmp_path / "s"
    monkeypatch.setattr(progress, "_asked", 1)
    with pytest.raises(Interrupted, match="rows, all saved in") as caught:
        capture(TinySubject(), corpus, SITES, out=out)
    assert caught.value.exit_code == 4 and artifact.read_manifest(out)["rows"] > 0
    with pytest.raises(Interrupted, match="give out="):
        capture(TinySubject(), corpus, SITES)
    monkeypatch.setattr(progress, "_asked", 0)
    assert capture(TinySubject(), corpus, SITES, out=out).content == capture(TinySubject(), corpus, SITES).content


@pytest.mark.parametrize(
    "change, words",
    [
        ({"context": 16}, "context=32 there, 16 given"),
        ({"packed": True}, "packed=False there, True given"),
        ({"tokens": 50}, "tokens=None there, 50 given"),
        ({"sites": [EMBED]}, "ports=.*resid_post.*there.*embed"),
        ({"threads": 7}, "threads=. there, 7 given"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_capture_in_the_same_folder_is_refused_with_the_difference(small_units, tmp_path, change, words, finished):
    corpus = texts(make_texts(20))
    try:
        capture(TinySubject(), corpus, SITES, out=tmp_path / "s", threads=1, progress=stop_after(10**9 if finished else 1))
    except Stop:
        assert not finished
    before = (tmp_path / "s" / "manifest.json").read_bytes()
    with pytest.raises(BadInput, match=words):
        capture(TinySubject(), corpus, **{"sites": SITES, **change}, out=tmp_path / "s")
    assert (tmp_path / "s" / "manifest.json").read_bytes() == before


def test_another_text_or_subject_in_the_same_folder_is_refused(small_units, tmp_path):
    capture(TinySubject(), texts(make_texts(20)), SITES, out=tmp_path / "s")
    with pytest.raises(BadInput, match="text has changed"):
        capture(TinySubject(), texts(make_texts(21)), SITES, out=tmp_path / "s")
    with pytest.raises(WrongSubject, match="fingerprint"):
        capture(TinySubject(seed=1), texts(make_texts(20)), SITES, out=tmp_path / "s")


def test_resumed_without_saying_threads_those_it_began_with_are_used(small_units, tmp_path):
    with pytest.raises(Stop):
        capture(TinySubject(), texts(make_texts()), SITES, out=tmp_path / "s", threads=1, progress=stop_after(1))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert capture(TinySubject(), texts(make_texts()), SITES, out=tmp_path / "s").settings["threads"] == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("letters, given", [("abcdefgh", {}), ("", {"start": 5})])
def test_less_than_a_context_is_an_empty_corpus(tmp_path, letters, given):
    for out in (None, tmp_path / "s"):
        with pytest.raises(EmptyCorpus) as caught:
            capture(TinySubject(), texts([letters or "x" * 40]), [OUT], out=out, **given)
        assert caught.value.exit_code == 3
    # The same folder with settings that do: nothing was committed, so nothing is in the way
    assert len(capture(TinySubject(), texts(["abcdefgh"]), [OUT], context=8, out=tmp_path / "s")) == 8


def test_a_value_that_is_no_number_names_document_and_site(tmp_path):
    listed = [*make_texts(10), "a fine \x7f text", "more of the same"]
    for out in (None, tmp_path / "s"):
        with pytest.raises(NotFinite, match=r"embed is NaN or infinite at token 8 of document 'texts:10:.*number 10"):
            capture(TinySubject(poison="\x7f"), texts(listed), [EMBED, OUT], out=out)


def test_what_cannot_be_captured_is_said(tmp_path):
    corpus = texts(make_texts(20))
    with pytest.raises(UnknownSite, match="resid_post"):
        capture(TinySubject(), corpus, "layers.0.resid_pots")
    with pytest.raises(BadInput, match="no row per token.*read it live"):
        capture(TinySubject(), corpus, "layers.0.attn_pattern")
    with pytest.raises(BadInput, match="takes 2 to 32 tokens"):
        capture(TinySubject(), corpus, [OUT], context=33)
    with pytest.raises(BadInput, match="leaves no room beside 2 special tokens"):
        capture(TinySubject(end=True), corpus, [OUT], context=2)
    with pytest.raises(BadInput, match="tokens=0"):
        capture(TinySubject(), corpus, [OUT], tokens=0)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds other things .mine.txt."):
        capture(TinySubject(), corpus, [OUT], out=tmp_path / "notes")
    with pytest.raises(BadInput, match="Cannot make the folder"):
        capture(TinySubject(), corpus, [OUT], out=tmp_path / "notes" / "mine.txt")
    assert (tmp_path / "notes" / "mine.txt").read_text() == "mine"


def test_two_writers_the_second_is_refused_by_name(tmp_path):
    (tmp_path / "s").mkdir()
    named = f"being written by process {os.getpid()} on .*expected one writer"
    with lock.hold(tmp_path / "s"), pytest.raises(BadInput, match=named):
        capture(TinySubject(), texts(make_texts(20)), [OUT], out=tmp_path / "s")
    capture(TinySubject(), texts(make_texts(20)), [OUT], out=tmp_path / "s")


def test_the_lock_of_a_dead_writer_is_taken_over_and_that_of_another_host_is_not(tmp_path):
    code = "import os, sys; from actscope.core import lock; c = lock.hold(sys.argv[1]); c.__enter__(); os._exit(9)"
    (tmp_path / "s").mkdir()
    subprocess.run([sys.executable, "-c", code, tmp_path / "s"], check=False)
    said = json.loads((tmp_path / "s" / ".lock").read_text())
    capture(TinySubject(), texts(make_texts(20)), [OUT], out=tmp_path / "s")
    for other in ({**said, "host": "elsewhere"}, {**said, "pid": os.getppid(), "host": "elsewhere"}):
        (tmp_path / "s" / ".lock").write_text(json.dumps(other))
        with pytest.raises(BadInput, match="on elsewhere since .*delete"):
            capture(TinySubject(), texts(make_texts(20)), [OUT], out=tmp_path / "s")
    (tmp_path / "s" / ".lock").write_text(json.dumps({**said, "pid": os.getpid()}))  # the number was given away again
    assert lock.owner(tmp_path / "s") is None
