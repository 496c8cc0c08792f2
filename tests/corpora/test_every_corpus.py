"""What every kind of corpus promises: an order that can be entered anywhere, and a fingerprint of the contents."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets as hub
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput, EmptyCorpus, MissingExtra
from actscope.corpora.chats import chats
from actscope.corpora.datasets import datasets
from actscope.corpora.files import files
from actscope.corpora.mixture import mixture
from actscope.corpora.parquet import parquet
from actscope.corpora.texts import texts
from actscope.stores.capture import capture
from actscope.subjects.load import load

hub.disable_progress_bars()


def render(messages: Sequence) -> str:
    return "".join(f"<{message['role']}>{message['content'].strip()}</>" for message in messages)


def talk(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text.strip()}, {"role": "assistant", "content": "Yes."}]


def table(path, listed, group: int = 3, **columns) -> None:
    made = pyarrow.table({"text": listed, "n": list(range(len(listed))), **columns})
    pyarrow.parquet.write_table(made, path, row_group_size=group)


def _text_folder(folder, listed):
    for number, text in enumerate(listed):
        (folder / f"{number:03}.txt").write_text(text, newline="")
    return files(folder)


def _lines(folder, listed):
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in listed))
    return files(folder / "a.jsonl")


def _packed_lines(folder, listed):
    content = "".join(json.dumps({"body": text}) + "\n\n" for text in listed)
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(content.encode(), mtime=0))
    return files(folder, column="body")


def _dialogues(folder, listed):
    (folder / "a.jsonl").write_text("".join(json.dumps({"messages": talk(text)}) + "\n" for text in listed))
    return files(folder, render=render)


def _parquet(folder, listed):
    half = len(listed) // 2
    table(folder / "a.parquet", listed[:half])
    table(folder / "b.parquet", listed[half:])
    return parquet(folder)


def _mixed(folder, listed):
    return mixture([(texts(listed, name="a"), 0.7), (texts(["x", *listed], name="b"), 0.3)], seed=3)


KINDS: dict[str, Callable[..., Corpus]] = {
    "text files": _text_folder,
    "lines": _lines,
    "packed lines": _packed_lines,
    "lines of dialogues": _dialogues,
    "parquet": _parquet,
    "dataset": lambda folder, listed: datasets(hub.Dataset.from_list([{"text": text} for text in listed])),
    "stream": lambda folder, listed: datasets(
        hub.Dataset.from_list([{"text": text} for text in listed]).to_iterable_dataset(num_shards=1)
    ),
    "texts": lambda folder, listed: texts(listed),
    "chats": lambda folder, listed: chats([talk(text) for text in listed], render),
    "mixture": _mixed,
}
WORD = st.text(alphabet="ab\u00e9 .\U0001f600", min_size=1, max_size=12).map(lambda text: f"w{text}w")
LISTS = st.lists(WORD, min_size=2, max_size=9)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(deadline=None, max_examples=8)
def test_a_corpus_is_entered_anywhere_and_knows_its_contents(tmp_path_factory, kind: str, data):
    listed = data.draw(LISTS)
    corpus = KINDS[kind](tmp_path_factory.mktemp("a"), listed)
    every = list(corpus.documents())
    assert every and len({document.id for document in every}) == len(every)
    for start in range(len(every) + 2):
        assert list(corpus.documents(start)) == every[start:]
    assert KINDS[kind](tmp_path_factory.mktemp("b"), listed).fingerprint == corpus.fingerprint
    changed = list(listed)
    place = data.draw(st.integers(0, len(listed) - 1))
    changed[place] += "!"
    assert KINDS[kind](tmp_path_factory.mktemp("c"), changed).fingerprint != corpus.fingerprint


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "mixture"])
def test_every_record_is_one_document_with_its_text(tmp_path, kind: str):
    listed = [f"number {number}" for number in range(7)]
    found = [document.text for document in KINDS[kind](tmp_path, listed).documents()]
    assert found == ([render(talk(text)) for text in listed] if kind in ("chats", "lines of dialogues") else listed)


def test_the_template_of_dialogues_is_part_of_the_fingerprint(tmp_path):
    table(tmp_path / "a.parquet", ["x"] * 4, talk=[talk(f"t{i}") for i in range(4)])
    rows = hub.Dataset.from_list([{"talk": talk("a")}])
    (tmp_path / "b.jsonl").write_text(json.dumps({"messages": talk("a")}))
    other = lambda messages: render(messages) + "<end>"  # noqa: E731
    for make in (
        lambda how: parquet(tmp_path / "a.parquet", column="talk", render=how),
        lambda how: datasets(rows, column="talk", render=how),
        lambda how: files(tmp_path / "b.jsonl", render=how),
    ):
        assert make(render).fingerprint == make(render).fingerprint != make(other).fingerprint
        assert {span.cause for span in next(make(render).documents()).spans} == {"role.user", "role.assistant"}
        with pytest.raises(BadInput, match=r"render=subject\.render"):
            make(None)


def test_whole_groups_of_rows_are_passed_over_unread(tmp_path, monkeypatch):
    table(tmp_path / "a.parquet", [f"t{i}" for i in range(30)], group=10)
    corpus = parquet(tmp_path / "a.parquet")
    read = []
    original = type(corpus)._values
    monkeypatch.setattr(
        type(corpus),
        "_values",
        lambda self, path, group, start: read.append((group, start)) or original(self, path, group, start),
    )
    assert [document.id for document in corpus.documents(25)] == [f"a.parquet:{i}" for i in range(25, 30)]
    assert read == [(2, 5)]


def test_a_null_is_an_empty_document(tmp_path):
    table(tmp_path / "a.parquet", ["a", None, "b"])
    assert [document.text for document in parquet(tmp_path).documents()] == ["a", "", "b"]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda path: parquet(path / "none.parquet"), BadInput, "no file or folder"),
        (lambda path: parquet(path), EmptyCorpus, "no Parquet file"),
        (lambda path: (path / "a.parquet").write_bytes(b"PAR1 not") and parquet(path), BadInput, "whole Parquet file"),
        (lambda path: table(path / "a.parquet", ["a"]) or parquet(path, column="body"), BadInput, "'body'; it has text, n"),
        (lambda path: table(path / "a.parquet", ["a"]) or parquet(path, column="n"), BadInput, "'n' is a int"),
        (lambda path: table(path / "a.parquet", []) or parquet(path), EmptyCorpus, "no row"),
        (lambda path: datasets(hub.Dataset.from_list([{"body": "a"}])), BadInput, "'body'; expected .* 'text'"),
        (lambda path: datasets(hub.DatasetDict()), BadInput, "Choose a split"),
        (lambda path: datasets(hub.Dataset.from_list([])), EmptyCorpus, "no row"),
        (lambda path: datasets(["a"]), BadInput, "row 0 is a str"),
        (lambda path: datasets(7), BadInput, "int given"),
        (lambda path: datasets("../here"), BadInput, "no hub id"),
        (lambda path: datasets([{"text": "a"}], split="train"), BadInput, "belong to a hub id"),
    ],
)
def test_what_is_no_corpus_is_said_in_one_sentence(tmp_path, make, error, says: str):
    with pytest.raises(error, match=says):
        make(tmp_path)


def test_a_cut_parquet_file_is_refused_at_every_length(tmp_path):
    table(tmp_path / "a.parquet", [f"text {i}" * 5 for i in range(20)])
    whole = (tmp_path / "a.parquet").read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 23)):
        (tmp_path / "a.parquet").write_bytes(whole[:length])
        with pytest.raises(BadInput, match="whole Parquet file"):
            parquet(tmp_path)


def test_a_stream_that_changes_between_two_passes_is_told():
    class Fickle:
        passes = 0

        def __iter__(self):
            self.passes += 1
            for number in range(1500):
                yield {"text": f"{number}" if number != 700 or self.passes < 3 else "another"}

    corpus = datasets(Fickle())  # its first row is looked at: the first pass
    assert len(list(corpus.documents(1490))) == 10
    with pytest.raises(BadInput, match="other rows than before"):
        list(corpus.documents(1490))


def test_a_hub_id_is_streamed_at_the_commit_it_has_now(monkeypatch):
    asked = []

    class Api:
        def dataset_info(self, id, revision=None):
            return type("Info", (), {"sha": f"commit-of-{revision}"})

    def load_dataset(*args, **kwargs):
        asked.append((args, kwargs))
        return hub.Dataset.from_list([{"text": "a"}, {"text": "b"}]).to_iterable_dataset()

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    corpus = datasets("org/name", config="en", revision="v1")
    assert asked == [(("org/name", "en"), {"split": "train", "revision": "commit-of-v1", "streaming": True})]
    assert [document.text for document in corpus.documents(1)] == ["b"]
    assert corpus.fingerprint != datasets("org/name", config="en", revision="v2").fingerprint
    assert corpus.fingerprint != datasets("org/name", config="en", revision="v1", split="test").fingerprint


def test_without_network_or_package_it_says_what_to_type(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadInput, match=r"'org/none' could not be fetched"):
        datasets("org/none")
    table(tmp_path / "a.parquet", ["a"])
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'actscope\[data\]'"):
        parquet(tmp_path)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def mini():
    return load("pocket-mini")


def made(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_capture_that_is_stopped_goes_on_to_the_same_bytes(tmp_path, mini, kind: str, monkeypatch):
    """Stopped in the middle of any kind of corpus, made anew: the content hash is the uninterrupted capture's."""
    monkeypatch.setattr("actscope.stores.capture.UNIT", 32)
    listed = [f"number {number} of the texts" for number in range(12)]
    whole = capture(mini, KINDS[kind](made(tmp_path / "a"), listed), "layers.0.mlp_out", out=tmp_path / "whole", context=16)

    def stop(done: int, total: int, note: str) -> None:
        if done >= len(whole) // 2:
            raise Killed

    with pytest.raises(Killed):
        capture(
            mini, KINDS[kind](made(tmp_path / "b"), listed), "layers.0.mlp_out", out=tmp_path / "cut", context=16, progress=stop
        )
    again = capture(mini, KINDS[kind](made(tmp_path / "c"), listed), "layers.0.mlp_out", out=tmp_path / "cut", context=16)
    assert again.content == whole.content
    changed = KINDS[kind](made(tmp_path / "d"), [*listed[:-1], "another"])
    with pytest.raises(BadInput):
        capture(mini, changed, "layers.0.mlp_out", out=tmp_path / "cut", context=16)
