"""The standard library as a corpus, and corpora mixed."""

from itertools import islice

import pytest

from actscope.core.corpus import Document
from actscope.core.errors import EmptyCorpus, UsageError
from actscope.corpora.mixture import mixture
from actscope.corpora.standard_library import content_hash, standard_library

SOURCE = '''"""A module whose docstring is long enough to be a document of its own, with several words."""

class Held:
    """A class with a docstring that is long enough to be read as one document by itself."""

    kind = "held"

    def method(self, value):
        """Return the value that was given, after nothing at all has been done to it."""
        def inner():
            return "a function inside another one, which is a document of its own as well", value
        return inner

if True:
    async def waits(first, second):
        return await first + second  # a function below a condition, found all the same
'''


@pytest.fixture
def library(tmp_path):
    (tmp_path / "pack").mkdir()
    (tmp_path / "test").mkdir()
    (tmp_path / "pack" / "a.py").write_text(SOURCE)
    (tmp_path / "pack" / "same.py").write_text(SOURCE)
    (tmp_path / "pack" / "broken.py").write_text("def f(:\n")
    (tmp_path / "test" / "b.py").write_text(SOURCE.replace("Held", "Tested"))
    return tmp_path


def test_one_document_a_function_class_head_and_docstring(library):
    texts = [document.text for document in standard_library(library, "all").documents()]
    assert len(texts) == 5, "each content once; tests and what is not Python are left out"
    (head,) = [text for text in texts if text.startswith("class Held")]
    assert "kind" in head and "def" not in head
    assert any(text.startswith("def method") and "def inner" in text for text in texts)
    assert any(text.startswith("async def waits") for text in texts)


def test_a_split_follows_from_the_content(tmp_path):
    functions = "\n".join(f"def f{n}(a, b):\n    return a + b + {n}  # padding that makes it long enough\n" for n in range(400))
    (tmp_path / "m.py").write_text(functions)
    (tmp_path / "n.py").write_text("\n".join(reversed(functions.split("\n\n"))))
    train, held = ({content_hash(d.text) for d in standard_library(tmp_path, split).documents()} for split in ("train", "held"))
    assert not train & held and 5 <= len(held) <= 50
    both = {content_hash(d.text) for d in standard_library(tmp_path, "all").documents()}
    assert both == train | held


def test_nothing_to_read_is_said(tmp_path):
    with pytest.raises(EmptyCorpus, match="root="):
        len(standard_library(tmp_path))
    with pytest.raises(UsageError, match="'test'"):
        standard_library(split="test")


class _Numbered:
    def __init__(self, name: str, count: int):
        self.name, self.fingerprint, self.count = name, f"{name}{count}", count

    def documents(self, start: int = 0):
        return (Document(f"{self.name}{n}", str(n)) for n in range(start, self.count))


def test_a_mixture_has_its_shares_and_can_be_resumed():
    mixed = mixture([(_Numbered("a", 3000), 3.0), (_Numbered("b", 3000), 1.0)], seed=2)
    ids = [document.id for document in mixed.documents()]
    assert 0.7 < sum(name[0] == "a" for name in ids) / len(ids) < 0.8
    assert [name for name in ids if name[0] == "b"] == [f"b{n}" for n in range(sum(name[0] == "b" for name in ids))]
    for start in (1, 17, 500):
        assert [document.id for document in islice(mixed.documents(start), 50)] == ids[start : start + 50]
    with pytest.raises(EmptyCorpus):
        mixture([])
    with pytest.raises(UsageError, match="above 0"):
        mixture([(_Numbered("a", 1), 0.0)])
