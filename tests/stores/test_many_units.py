"""Beyond the first units the manifest is written now and then, and a journal in between: nothing committed is run again."""

import json

import pytest
from test_capture import Stop, make_texts, stop_after
from tiny_subject import OUT, TinySubject

from actscope.core import artifact, files
from actscope.corpora.texts import texts
from actscope.stores._parts import writer
from actscope.stores.capture import capture


@pytest.mark.parametrize("units, noted", [(7, 0), (9, 1), (10, 0), (14, 2)])
def test_stopped_between_two_manifests_what_the_journal_names_is_adopted(units, noted, tmp_path, monkeypatch):
    monkeypatch.setattr("actscope.stores.capture.UNIT", 100)
    monkeypatch.setattr(writer, "_EVERY", 8)
    monkeypatch.setattr(writer.Behind, "do", lambda self, write: write())  # no unit is waiting when it stops
    corpus, out = texts(make_texts()), tmp_path / "s"
    expected = capture(TinySubject(), corpus, [OUT])
    assert len(expected.parts) > 16
    with pytest.raises(Stop):
        capture(TinySubject(), corpus, [OUT], out=out, progress=stop_after(units))
    journals = list(out.glob("journal-*.json"))
    named = sum(len(json.loads(path.read_text())["units"]) for path in journals)
    assert len(artifact.read_manifest(out)["units"]) + named == len(list(out.glob("unit-*"))) == units
    assert named == noted
    counted = []
    store = capture(TinySubject(), corpus, [OUT], out=out, progress=lambda done, *_: counted.append(done))
    assert store.content == expected.content and not list(out.glob("journal-*"))
    starts = [sum(part.rows for part in expected.parts[: n + 1]) for n in range(len(expected.parts))]
    assert counted[0] == starts[units], "a unit that a journal names was run again, or one was left out"


def test_the_bytes_written_beside_rows_do_not_grow_with_the_square(tmp_path, monkeypatch):
    """Of manifests and journals, a unit: of 8 times the units less than twice as much; a manifest a unit would take 8 times."""
    monkeypatch.setattr("actscope.stores.capture.UNIT", 32)
    monkeypatch.setattr(writer, "_EVERY", 8)
    write, total, each = files.write_json, [0], []
    monkeypatch.setattr(files, "write_json", lambda path, value: total.append(len(json.dumps(value))) or write(path, value))
    for n in (20, 160):
        total.clear()
        store = capture(TinySubject(), texts(["a" * 31] * n), [OUT], out=tmp_path / str(n))
        assert len(store.parts) == n
        each.append(sum(total) / n)
    assert each[1] < 2 * each[0], each
