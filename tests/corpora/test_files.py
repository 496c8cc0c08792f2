"""Files become documents of bounded size, in a fixed order, or one clear sentence says why not."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core.corpus import Span
from actscope.core.errors import BadInput, EmptyCorpus
from actscope.corpora._parts.passages import LONGEST, python_passages, text_passages
from actscope.corpora.files import files
from actscope.corpora.texts import texts

WORDS = st.text(alphabet=st.sampled_from("ab \n\t.#\u00e9"), max_size=4000)


@given(WORDS)
@settings(deadline=None, max_examples=150)
def test_passages_are_bounded_lose_nothing_and_know_their_line(text: str):
    found = list(text_passages(text))
    assert all(0 < len(passage) <= LONGEST for _, passage in found)
    assert "".join("".join(passage.split()) for _, passage in found) == "".join(text.split())
    lines = text.split("\n")
    for line, passage in found:
        assert passage.split("\n")[0] in lines[line - 1]


def test_a_text_without_any_break_is_cut_all_the_same():
    found = list(text_passages("x" * 10_000))
    assert [len(passage) for _, passage in found] == [LONGEST] * 6 + [1000]


@given(WORDS)
@settings(deadline=None, max_examples=50)
def test_code_that_does_not_parse_is_cut_like_text(text: str):
    broken = "def (\n" + text
    assert list(python_passages(broken)) == list(text_passages(broken))


def test_python_is_cut_at_top_level_definitions():
    code = (
        '"""Doc."""\nimport os\n\n\n# about f\n@cache\ndef f(x):\n    return x\n\n\n'
        "class A:\n    def g(self):\n        return 1\n\n\nx = '\\d'\n"
    )
    assert list(python_passages(code)) == [
        (1, '"""Doc."""\nimport os'),
        (5, "# about f\n@cache\ndef f(x):\n    return x"),
        (11, "class A:\n    def g(self):\n        return 1"),
        (16, "x = '\\d'"),
    ]


def test_a_long_definition_stays_bounded():
    code = "def f():\n" + "    x = 1\n" * 1000
    found = list(python_passages(code))
    assert len(found) > 5 and max(len(passage) for _, passage in found) <= LONGEST


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.md").write_text("# Title\n\nFirst.\n")
    (tmp_path / "a.txt").write_text("one\n\n" + "two " * 500)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.py").write_text("def f():\n    return 1\n")
    (tmp_path / "sub" / "d.jsonl").write_text('{"text": "x"}\n\n{"text": "y", "n": 1}\n')
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "e.txt").write_text("never")
    (tmp_path / "f.bin").write_bytes(b"\x00\xff")
    return tmp_path


def test_a_folder_is_read_in_sorted_order_without_hidden_and_foreign_files(folder):
    ids = [document.id for document in files(folder).documents()]
    assert ids == ["a.txt:1", "a.txt:3", "a.txt:3.1", "b.md:1", "sub/c.py:1", "sub/d.jsonl:1", "sub/d.jsonl:3"]


def test_reading_from_the_middle_skips_exactly_that_many(folder):
    corpus = files(folder)
    every = list(corpus.documents())
    assert all(list(corpus.documents(start)) == every[start:] for start in range(len(every) + 2))


def test_the_fingerprint_follows_contents_and_names_not_places(folder, tmp_path_factory):
    before = files(folder).fingerprint
    assert files(folder).fingerprint == before
    (folder / "f.bin").write_bytes(b"other")
    assert files(folder).fingerprint == before
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "x.txt").write_text("same")
    (folder / "x.txt").write_text("same")
    assert files(elsewhere / "x.txt").fingerprint == files(folder / "x.txt").fingerprint
    assert files(folder).fingerprint != before


BAD = {
    "missing.txt": (None, BadInput, "no file or folder .*missing.txt"),
    "empty.txt": (b"", EmptyCorpus, "holds no text"),
    "blank.md": (b" \n\n\t\n", EmptyCorpus, "only blank space"),
    "latin.txt": ("caf\u00e9".encode("latin-1"), BadInput, "not UTF-8.*byte 3 is 0xe9.*iconv"),
    "page.html": (b"x", BadInput, "ends in '.html'; expected .txt"),
    "noend": (b"x", BadInput, "expected .txt"),
    "broken.jsonl": (b'{"text": "x"}\n{"text": \n', BadInput, "line 2.*expected a JSON object"),
    "other.jsonl": (b'{"text": "x"}\n\n{"body": "y"}\n', BadInput, "line 3: an object with 'body'"),
    "list.jsonl": (b"[1]\n", BadInput, "line 1: list"),
    "number.jsonl": (b'{"text": 3}\n', BadInput, "line 1.*string"),
    "deep.jsonl": (b"[" * 100_000, BadInput, "line 1"),
    "half.jsonl": (b'{"text": "\\ud800"}\n', BadInput, "line 1.*surrogate"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_said_in_one_sentence(name, tmp_path):
    data, error, words = BAD[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=words) as caught:
        files(tmp_path / name)
    assert caught.value.exit_code == 3


def test_an_empty_folder_is_an_empty_corpus(tmp_path):
    with pytest.raises(EmptyCorpus, match="holds no text file"):
        files(tmp_path)


def test_line_ends_and_a_byte_order_mark_are_no_part_of_the_text(tmp_path):
    (tmp_path / "w.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert [document.text for document in files(tmp_path / "w.txt").documents()] == ["one\ntwo"]


@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), max_size=20), min_size=1))
@settings(deadline=None, max_examples=50)
def test_json_lines_bring_back_what_was_written(tmp_path_factory, listed):
    path = tmp_path_factory.mktemp("lines") / "x.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in listed))
    assert [document.text for document in files(path).documents()] == listed


def test_texts_at_hand():
    corpus = texts(["one", "two"], name="mine")
    assert [document.text for document in corpus.documents(1)] == ["two"] and len(corpus) == 2
    assert corpus.fingerprint == texts(["one", "two"], name="mine").fingerprint
    assert corpus.fingerprint != texts(["two", "one"], name="mine").fingerprint
    with pytest.raises(EmptyCorpus, match="2 texts were given"):
        texts(["", ""])


def test_spans_label_characters_of_lines(tmp_path):
    place = tmp_path / "notes.jsonl"
    place.write_text('{"text": "a cat", "spans": [{"start": 2, "end": 5, "label": "animal"}]}\n{"text": "none"}\n')
    first, second = files(place, spans="spans").documents()
    assert first.spans == (Span(2, 5, "animal"),) and second.spans == ()
    assert next(files(place).documents()).spans == ()
    assert files(place).fingerprint == files(place, spans="spans").fingerprint


@pytest.mark.parametrize(
    "span",
    [
        '{"start": 2, "end": 6, "label": "a"}',
        '{"start": 2, "end": 2, "label": "a"}',
        '{"start": 2, "label": "a"}',
        "3",
        '{"start": true, "end": 2, "label": "a"}',
    ],
)
def test_spans_that_label_nothing_are_told_with_their_line(span, tmp_path):
    place = tmp_path / "notes.jsonl"
    place.write_text(f'{{"text": "a cat"}}\n{{"text": "a cat", "spans": [{span}]}}\n')
    with pytest.raises(BadInput, match="line 2"):
        files(place, spans="spans")
