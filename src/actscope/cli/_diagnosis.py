"""A model examined: its text, its checkpoints, every measure, and what is made of them."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from rich.console import RenderableType

from actscope.cli import _common, _documents
from actscope.core import artifact, files
from actscope.core.corpus import Corpus, Document, Span
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.progress import Progress
from actscope.core.score import Score
from actscope.corpora.texts import Texts, texts
from actscope.organisms.truth import truth
from actscope.reports import diagnosis
from actscope.reports.diagnosis import Checkpoint, Diagnosis, Measure
from actscope.scores._diagnose import Examined, diagnose, planned
from actscope.scores._parts.cost import cost_of
from actscope.scores._parts.passages import Passages
from actscope.scores.subject.massive_dynamics import massive_dynamics
from actscope.subjects.hf import HFSubject
from actscope.subjects.load import checkpoints, load
from actscope.tasks._parts.words import ENTITIES

_KINDS = sorted({causes[1] for causes in ENTITIES.values() if len(causes) == 2})  # name, city, colour...
_RATIO = "massive_activations:"


@dataclass(frozen=True)
class Wanted:
    model: str
    text: Path | None
    tokens: int
    dictionary: Path | None
    classes: Path | None
    out: Path
    seed: int


@dataclass(frozen=True)
class Ready:
    """What is at hand before anything is measured. steps: (step, name to load) of every checkpoint."""

    subject: HFSubject
    passages: Passages
    given: Mapping[str, object]
    steps: tuple[tuple[int, str], ...]
    plan: tuple[Examined, ...]
    followed: tuple[Examined, ...]  # at each checkpoint


def ready(wanted: Wanted) -> Ready:
    """Open the model, tokenize the text, and find out what can be measured."""
    steps = checkpoints(wanted.model)
    subject = load(wanted.model if not steps or _whole(wanted.model) else steps[-1][1])
    chosen = _text(wanted, subject)
    passages = Passages.of(subject, chosen, tokens=wanted.tokens)
    given = _given(wanted, subject, chosen, passages)
    followed = planned(passages, given, needs=["one pass"]) if steps else []
    return Ready(subject, passages, given, tuple(steps), tuple(planned(passages, given)), tuple(followed))


def _whole(model: str) -> bool:
    """Whether a name stands for a model of its own, not only for a folder of checkpoints."""
    return not Path(model).is_dir() or (Path(model) / "config.json").is_file()


def _text(wanted: Wanted, subject: HFSubject) -> Texts:
    """The first documents of the text, enough of them; words of the classes given are marked."""
    corpus = _documents.source(wanted.text, wanted.model, wanted.seed, subject)
    listed = list(_enough(corpus, wanted.tokens))
    if wanted.classes is not None:
        listed = _marked(listed, _classes(wanted.classes))
    return texts(listed, name=corpus.name)


def _enough(corpus: Corpus, tokens: int) -> Iterator[Document]:
    """Documents until their characters are surely so many tokens: one has fewer than 8 on average, whatever the tokenizer."""
    left = 8 * tokens
    for document in corpus.documents():
        if left <= 0:
            return
        left -= len(document.text)
        yield document


def _classes(path: Path) -> dict[str, list[str]]:
    read = files.read_json(path)
    right = isinstance(read, dict) and all(
        isinstance(words, list) and words and all(isinstance(word, str) and word for word in words) for words in read.values()
    )
    if not right or len(read) < 2:
        raise BadInput(f'{path} holds no classes of words; expected {{"class": ["word", ...], ...}}, two classes or more.')
    return read


def _marked(documents: list[Document], classes: Mapping[str, list[str]]) -> list[Document]:
    """The same documents, every word of a class labelled with it."""
    wholes = {
        name: re.compile(r" ?(?<!\w)(?:" + "|".join(map(re.escape, words)) + r")(?!\w)") for name, words in classes.items()
    }
    return [
        replace(one, spans=tuple(Span(*m.span(), name) for name, whole in wholes.items() for m in whole.finditer(one.text)))
        for one in documents
    ]


def _given(wanted: Wanted, subject: HFSubject, chosen: Texts, passages: Passages) -> dict[str, object]:
    given: dict[str, object] = {}
    if any(document.spans for document in islice(chosen.documents(), passages.documents)):
        last = 1 + max(int(batch.documents.max()) for batch in passages.batches)
        given["labels"] = truth(chosen, subject, documents=last)
        given["classes"] = _KINDS if wanted.classes is None else sorted(_classes(wanted.classes))
    if wanted.dictionary is not None:
        opened = artifact.open(wanted.dictionary)
        if not isinstance(opened, Dictionary):
            raise BadInput(
                f"{wanted.dictionary} holds a {type(opened).__name__}; --dictionary takes what `actscope fit` saves."
            )
        given["dictionary"] = opened
    return given


def costs(at_hand: Ready) -> RenderableType:
    """What each measure declares, before anything is run."""
    rows = [(one.name, one.cost.sentence(), one.declared, one.why) for one in at_hand.plan]
    if at_hand.steps:
        total = len(at_hand.steps) * sum(one.declared for one in at_hand.followed)
        rows.append((f"at {len(at_hand.steps)} checkpoints", "those of one pass again, at each", total, ""))
        rows.append(("massive_dynamics", cost_of(massive_dynamics).sentence(), 0, ""))
    return diagnosis.declared(rows)


def run(wanted: Wanted, at_hand: Ready, progress: Callable[[str], Progress]) -> Diagnosis:
    """Measure everything, and write diagnosis.json and diagnosis.html into `wanted.out`."""
    began, created = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    subject, passages = at_hand.subject, at_hand.passages
    own = diagnose(subject, passages, given=at_hand.given, seed=wanted.seed, progress=progress(subject.name))
    at_steps, spent = [], {one.name: [one.declared, one.measured, one.seconds] for one in own}
    for step, name in at_hand.steps:
        given = {key: value for key, value in at_hand.given.items() if key != "dictionary"}
        found = diagnose(
            load(name), passages, given=given, needs=["one pass"], seed=wanted.seed, progress=progress(f"step {step}")
        )
        at_steps.append(Checkpoint(step, [score for one in found for score in one.scores]))
        for one in found:
            for place, value in enumerate((one.declared, one.measured, one.seconds)):
                spent[one.name][place] += value
    measures = [
        Measure(one.name, one.cost.sentence(), declared, measured, seconds, one.scores, one.why)
        for one, (declared, measured, seconds) in zip(own, spent.values(), strict=True)
    ]
    sites = [site for site in subject.order if site.kind == "resid_post"]
    made = Diagnosis(
        command="actscope " + " ".join(sys.argv[1:]), created=created, model=subject.name, fingerprint=subject.fingerprint,
        parameters=sum(p.numel() for p in subject.model.parameters()), layers=len(sites), width=subject.sites[sites[-1]].width,
        corpus=passages.name, documents=passages.documents, tokens=passages.tokens,
        measures=[*measures, *_dynamics(at_steps, wanted.seed)], checkpoints=at_steps, seed=wanted.seed,
        seconds=time.monotonic() - began,
    )  # fmt: skip
    files.write_json(wanted.out / "diagnosis.json", made.to_json())
    files.write_text(wanted.out / "diagnosis.html", diagnosis.page(made))
    return made


def _dynamics(at_steps: list[Checkpoint], seed: int) -> list[Measure]:
    """The curve of massive activations over checkpoints, where there are any."""
    if not at_steps:
        return []
    began, scores, why = time.monotonic(), [], ""
    ratios: dict[str, list[float]] = {}
    for one in at_steps:
        for score in one.scores:
            if score.name.startswith(_RATIO):
                ratios.setdefault(score.name.removeprefix(_RATIO), []).append(score.value)
    try:
        scores: list[Score] = massive_dynamics([one.step for one in at_steps], ratios, seed=seed)
    except BadInput as error:
        why = str(error)
    cost = cost_of(massive_dynamics).sentence()
    return [Measure("massive_dynamics", cost, 0, 0, time.monotonic() - began, scores, why)]


def examine(wanted: Wanted, *, json: bool, dry_run: bool) -> None:
    """Say what it costs, do it unless only that was asked, and show what was found."""
    console = _common.console()
    prepared = ready(wanted)
    if dry_run or not json:
        console.print(costs(prepared))
    if dry_run:
        return
    found = run(wanted, prepared, _common.plain_progress)
    if json:
        return _common.print_json(found.to_json())
    console.print(diagnosis.table(found))
    console.print(f"\nThe page: {wanted.out / 'diagnosis.html'}", soft_wrap=True, markup=False)
