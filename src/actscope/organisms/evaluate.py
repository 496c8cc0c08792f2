"""What a built-in model can do, on prompts and text kept out of its training: the table of `actscope organism eval`.

Letters: b rows, t tokens.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actscope.core import files, methods
from actscope.core.corpus import Document
from actscope.core.inputs import Inputs
from actscope.core.progress import Progress, quiet
from actscope.core.score import Score
from actscope.core.task import Example, Task
from actscope.corpora.standard_library import content_hash, standard_library
from actscope.organisms._ngram import KneserNey
from actscope.tasks._parts.people import BUCKETS

__all__ = ["evaluate"]

BARS = {
    "ioi": 0.95, "greater_than": 0.95, "context_facts": 0.95, "docstring": 0.95, "refusal": 0.95, "tone": 0.95,
    "induction": 0.90, "successor": 0.90, "colored_objects": 0.90, "facts": 0.95, "addition": 0.80,
}  # fmt: skip
_ROWS = 128  # sequences run at a time
_STRIDE = 2  # a window moves on by its length over this


def evaluate(
    subject: Any,
    *,
    n: int = 400,
    seed: int = 0,
    root: str | Path | None = None,
    trained_on: Path | None = None,
    documents: int | None = 400,
    rules: Sequence[str] | None = None,
    progress: Progress = quiet,
) -> list[Score]:
    """One score a rule (share of right answers, on prompts kept out of training) and the bits per byte of real text.

    subject: a language model with a tokenizer. n: prompts a rule. root: a standard library's folder; trained_on: a
    safetensors file of content hashes, whose documents are left out. documents: held-out documents read (None: all; 0: no
    text at all). `control` is the same share when every prompt is its corrupted twin; for text, that of a Kneser-Ney 5-gram
    trained on the training split in the same tokens.
    """
    scores = []
    names = methods.names("tasks") if rules is None else list(rules)
    for done, name in enumerate(names):
        progress(done, len(names) + 1, name)
        task: Task = methods.find("tasks", name)()  # type: ignore[operator]
        scores.append(_rule_score(subject, task, n, seed))
    if documents != 0:
        progress(len(names), len(names) + 1, "real text")
        scores.append(_text_score(subject, root, trained_on, documents))
    progress(len(names) + 1, len(names) + 1, "")
    return scores


def accuracy(subject: Any, task: Task, examples: Sequence[Example]) -> list[bool]:
    """Whether the subject is right, for each example, by the task's own metric."""
    judge = _mass if task.metric == "mass" else _exact
    return judge(subject, examples)


def _rule_score(subject: Any, task: Task, n: int, seed: int) -> Score:
    examples = task.examples(n, seed=seed, split="test")
    right = accuracy(subject, task, examples)
    twins = [Example(e.corrupted, e.answers, e.wrong, "", e.labels) for e in examples if e.corrupted]
    control = accuracy(subject, task, twins)
    parts, counted = {}, right
    for label in ("digits", "kind", "frequency", "forbidden", "tone", "depth"):
        values = list(BUCKETS) if label == "frequency" else sorted({e.labels[label] for e in examples if label in e.labels})
        for value in values:
            those = [hit for hit, e in zip(right, examples, strict=True) if e.labels.get(label) == value]
            if those:
                parts[f"{label} {value}"] = sum(those) / len(those)
    if task.name == "facts":  # the bar is for the frequent ones
        first = next(iter(BUCKETS))
        counted = [hit for hit, e in zip(right, examples, strict=True) if e.labels["frequency"] == first]
    value = sum(counted) / len(counted)
    return Score(
        task.name, f"organism.{task.metric}@1", value, "share", "higher", len(counted), _wilson(value, len(counted)),
        sum(control) / len(control) if control else None, parts,
    )  # fmt: skip


def _wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """95% interval of a share. Wilson 1927."""
    middle, spread = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + z * z / n)), min(1.0, (middle + spread) / (1 + z * z / n))


def _exact(subject: Any, examples: Sequence[Example]) -> list[bool]:
    """Greedy decoding says one of the answers: each token of it is the most probable after those before."""
    asked = [(number, e.prompt, e.prompt + answer) for number, e in enumerate(examples) for answer in e.answers]
    before = [len(ids) for ids in _ids(subject, [prompt for _, prompt, _ in asked])]
    rows = _ids(subject, [whole for _, _, whole in asked])
    right = [False] * len(examples)
    for place, (logits, ids) in enumerate(zip(_logits(subject, rows), rows, strict=True)):
        first = before[place]
        said = logits[first - 1 : len(ids) - 1].argmax(-1).tolist()
        right[asked[place][0]] |= said == ids[first:]
    return right


def _mass(subject: Any, examples: Sequence[Example]) -> list[bool]:
    """The answers together are more probable than the wrong ones together."""
    rows, wanted = [], []
    for example in examples:
        prompt = _ids(subject, [example.prompt])[0]
        whole = _ids(subject, [example.prompt + text for text in (*example.answers, *example.wrong)])
        tails = [tuple(ids[len(prompt) :]) for ids in whole]
        prefixes = sorted({tail[:size] for tail in tails for size in range(len(tail))})
        wanted.append((tails, {prefix: len(rows) + place for place, prefix in enumerate(prefixes)}))
        rows += [[*prompt, *prefix] for prefix in prefixes]
    last = [logits[-1].log_softmax(-1) for logits in _logits(subject, rows)]
    right = []
    for example, (tails, row) in zip(examples, wanted, strict=True):
        chance = [math.exp(sum(float(last[row[tail[:at]]][token]) for at, token in enumerate(tail))) for tail in tails]
        right.append(sum(chance[: len(example.answers)]) > sum(chance[len(example.answers) :]))
    return right


def _ids(subject: Any, texts: Sequence[str]) -> list[list[int]]:
    return [encoded.ids for encoded in subject.tokenizer.backend_tokenizer.encode_batch(list(texts))]


def _logits(subject: Any, rows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """Float[t vocab] for each row, in order; rows of near length are run together."""
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    kept: dict[int, Tensor] = {}
    for at in range(0, len(order), _ROWS):
        some = order[at : at + _ROWS]
        longest = len(rows[some[-1]])
        ids = torch.tensor([[*rows[place], *[0] * (longest - len(rows[place]))] for place in some])
        sizes = torch.tensor([len(rows[place]) for place in some])
        logits = subject.run(Inputs(ids=ids, mask=torch.arange(longest) < sizes[:, None])).logits
        for place, one in zip(some, logits, strict=True):
            kept[place] = one[: len(rows[place])].float().cpu()
    return (kept[place] for place in range(len(rows)))


def _text_score(subject: Any, root: str | Path | None, trained_on: Path | None, limit: int | None) -> Score:
    """Bits per byte of held-out documents, beside those of the n-gram model, which sees each document whole."""
    seen = set() if trained_on is None else set(files.read_tensors(trained_on)["hashes"].tolist())
    held: list[Document] = []
    for document in standard_library(root, "held").documents():
        if int(content_hash(document.text), 16) - 2**63 not in seen:
            held.append(document)
    held = held[:limit]
    rows = _ids(subject, [document.text for document in held])
    model = -sum(_log2(subject, rows))
    trained = _ids(subject, [document.text for document in standard_library(root, "train").documents()])
    ngram = KneserNey(trained, vocabulary=len(subject.tokenizer))
    baseline = -sum(float(ngram.log2(ids).sum()) for ids in rows)
    size = sum(len(document.text.encode()) for document in held)
    tokens = sum(len(ids) - 1 for ids in rows)
    parts = {"documents": float(len(held)), "bytes": float(size), "tokens": float(tokens), "5-gram": baseline / size}
    return Score(
        "text", "organism.bits_per_byte@1", model / size, "bits per byte", "lower", len(held), None, baseline / size, parts
    )


def _log2(subject: Any, rows: Sequence[Sequence[int]]) -> Iterator[float]:
    """log2 probability of each row after its first token. Long rows are read in overlapping windows, each starting with
    the row's first token, as in training."""
    windows, scored = [], []
    for ids in rows:
        body, size = ids[1:], subject.context - 1
        start, reached = 0, 0
        while reached < len(body):
            piece = body[start : start + size]
            windows.append([ids[0], *piece])
            scored.append(start + len(piece) - reached)  # the last ones, not scored before
            reached, start = start + len(piece), start + size // _STRIDE
    for at in range(0, len(windows), _ROWS):
        some = windows[at : at + _ROWS]
        for ids, last, logits in zip(some, scored[at : at + _ROWS], _logits(subject, some), strict=True):
            chance = logits[:-1].log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[-last:]
            yield float(chance.sum()) / math.log(2)
