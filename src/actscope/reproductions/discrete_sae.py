"""Codes that only some prompts have tell the heads of a circuit. O'Neill and Bui 2024, "Sparse autoencoders enable scalable and
reliable circuit identification in language models" (arXiv:2405.12522), on pocket: the part that needs no search for circuits.

    1. Truth, for indirect objects, greater-than and docstrings: a head belongs to the circuit when its mean in place of what it
       gives moves the margin of right over wrong answers by a tenth of what lies between prompts and their corrupted twins.
       Measured on other prompts than those that follow.
    2. Ten prompts and their twins. What every head gives (z) at the last token, or its mean over tokens, is a row.
    3. Fit a small discrete autoencoder to the rows. A head's score: of the codes it has, the share that no twin has.
    4. ROC-AUC of scores against truth. Settings (last token or mean, latents, l1) are the best on two other tasks.
    5. Baselines on the same prompts: gradient times what mean ablation would take off; the length of what a head gives; the
       length of the difference in means between prompts and twins. Controls: prompts and twins mixed up, and an autoencoder
       not trained.

The paper's other rival, ACDC, and its edges between heads need circuits and are not measured.
Letters: b prompts, h heads (of all layers), d width of a head, v vocabulary.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core import methods
from actscope.core.batch import Batch
from actscope.core.inputs import Inputs, real_text
from actscope.core.intervention import Intervention, Replace
from actscope.core.progress import Progress, quiet
from actscope.core.reproduction import Reproduction
from actscope.core.site import Port, Site
from actscope.core.subject import Subject
from actscope.core.task import Example
from actscope.dictionaries.discrete import Discrete
from actscope.reproductions._parts.planted import store_of
from actscope.reproductions._parts.seeds import gathered, means
from actscope.scores._parts.detectors import auroc
from actscope.subjects.load import load
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["discrete_sae"]

CLAIM = (
    "With ten prompts and in under 5 s, the share of a head's codes that only prompts with the behaviour have tells the heads "
    "of its circuit at least as well as attribution to heads does."
)
SECONDS = 5.0
PART = 0.1  # of the margin between prompts and twins, from which a head belongs to the circuit
TASKS, OTHERS = ("ioi", "greater_than", "docstring"), ("induction", "successor")
RIVALS = ("gradient", "length", "difference")
PLACES, LATENTS, L1S = ("last", "mean"), (64, 256), (0.02, 0.1)
TUNING, TRUTH = 1000, 2000  # seeds of the prompts that settings are chosen with, and that truth is measured on
PORT = Port.parse("layers.0.z")  # every head's rows stand at one port


def discrete_sae(
    *,
    seeds: Sequence[int] = (0, 1, 2),
    prompts: int = 10,
    judged: int = 100,
    rounds: int = 100,
    draws: int = 20,
    full: bool = False,
    progress: Progress = quiet,
) -> Reproduction:
    """Heads of circuits from codes of their outputs (O'Neill and Bui 2024, arXiv:2405.12522).

    seeds: of prompts and autoencoders. prompts: that heads are scored with, each with its twin; judged: that truth is
    measured on; rounds: passes over the rows in training; draws: of the mixed-up control. full: five seeds, three times the
    prompts for truth. holds: in every seed the mean ROC-AUC over tasks is at least that of every baseline, above both
    controls over all seeds, and a task takes less than 5 s of processor time.
    """
    began = time.monotonic()
    if full:
        seeds, judged = tuple(range(5)), 3 * judged
    subject = load("pocket")
    progress(0, len(seeds) + 1, "truth and settings")
    truths = {task: _truth(subject, task, judged) for task in (*TASKS, *OTHERS)}
    settings = _tuned(subject, truths, prompts, rounds)
    found: list[dict[str, float]] = []
    for number, seed in enumerate(seeds):
        progress(number + 1, len(seeds) + 1, f"seed {seed}")
        tasks = {task: _scored(subject, task, truths[task], settings, seed, prompts, rounds, draws) for task in TASKS}
        one = {f"{name} {task}": value for task, told in tasks.items() for name, value in told.items()}
        one |= {name: sum(told[name] for told in tasks.values()) / len(tasks) for name in tasks[TASKS[0]]}
        found.append({**one, "latents": float(settings.latents), "l1": settings.l1, "last": float(settings.place == "last")})
    progress(len(seeds) + 1, len(seeds) + 1, "seeds")
    figures = gathered(found)
    figures |= {f"heads of {task}": (float(truths[task].sum()),) * len(found) for task in truths}
    mean = means(figures)
    best = max(RIVALS, key=lambda rival: mean[rival])
    reaches = all(ours >= max(others) for ours, *others in zip(figures["codes"], *(figures[r] for r in RIVALS), strict=True))
    works = mean["codes"] > max(mean["mixed up"], mean["not trained"])
    slowest = max(max(figures[f"seconds {task}"]) for task in TASKS)
    return Reproduction(
        "discrete-sae", CLAIM, mean["codes"], mean[best], mean["mixed up"], "ROC-AUC", tuple(seeds),
        reaches and works and slowest < SECONDS, time.monotonic() - began, figures, {"subject": subject.fingerprint},
    )  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """Prompts, and which tokens begin a right and which a wrong answer."""

    inputs: Inputs
    right: Bool[Tensor, "b v"]
    wrong: Bool[Tensor, "b v"]

    @property
    def last(self) -> Int[Tensor, " b"]:
        """Where the answer is predicted."""
        return real_text(self.inputs).int().cumsum(1).argmax(1)

    def margins(self, logits: Float[Tensor, "b t v"]) -> Float[Tensor, " b"]:
        """Log-odds of right over wrong answers, nats."""
        here = logits[torch.arange(len(self.right)), self.last]
        return torch.logsumexp(here.where(self.right, -torch.inf), 1) - torch.logsumexp(here.where(self.wrong, -torch.inf), 1)


def asked(subject: Subject, task: str, n: int, *, seed: int, split: str) -> tuple[Asked, Asked]:
    """(n prompts, their corrupted twins with the same answers). Tokens that begin both a right and a wrong answer count as
    neither, and prompts left without a right or a wrong one are passed over."""
    made: Any = methods.find("tasks", task)
    size = subject.sites[Site("logits")].width
    kept: list[Example] = []
    rights, wrongs = [], []
    for example in made().examples(3 * n, seed=seed, split=split):
        right, wrong = torch.zeros(2, size, dtype=torch.bool)
        right[_begins(subject, example, example.answers)] = True
        wrong[_begins(subject, example, example.wrong)] = True
        if (right & ~wrong).any() and (wrong & ~right).any():
            kept.append(example)
            rights.append(right & ~wrong)
            wrongs.append(wrong & ~right)
        if len(kept) == n:
            break
    assert len(kept) == n, f"{task} gives too few prompts whose first token tells the answer"
    prompts, twins = (subject.prepare([getattr(one, kind) for one in kept]) for kind in ("prompt", "corrupted"))
    return Asked(prompts, torch.stack(rights), torch.stack(wrongs)), Asked(twins, torch.stack(rights), torch.stack(wrongs))


def _begins(subject: Subject, example: Example, answers: Sequence[str]) -> Int[Tensor, " answers"]:
    """The token that follows the prompt where each answer does."""
    inputs = subject.prepare([example.prompt, *(example.prompt + answer for answer in answers)])
    assert inputs.ids is not None
    place = int(real_text(inputs)[0].nonzero().max()) + 1
    return inputs.ids[1:, place]


def _heads(subject: Subject) -> list[Site]:
    """Every head's output, layer by layer."""
    wholes = [site for site in subject.sites if site.kind == "z"]
    return [Site("z", site.layer, part) for site in wholes for part in range(int(subject.sites[site].shape[2]))]


@torch.no_grad()
def _given(subject: Subject, inputs: Inputs) -> Float[Tensor, "b t h d"]:
    """What every head gives at every token."""
    wholes = [site for site in subject.sites if site.kind == "z"]
    acts = subject.run(inputs, read=wholes).acts
    return torch.cat([acts[site] for site in wholes], dim=2)


@torch.no_grad()
def effects(subject: Subject, task: str, n: int) -> Float[Tensor, " h"]:
    """How much of the margin between prompts and their twins is lost when a head's mean stands in its place."""
    these, twins = asked(subject, task, n, seed=TRUTH, split="test")
    usual = _given(subject, these.inputs)[real_text(these.inputs)].mean(0)
    clean, corrupted = (_margin(subject, one) for one in (these, twins))
    heads = _heads(subject)
    lost = [clean - _margin(subject, these, Replace(site, mean)) for site, mean in zip(heads, usual, strict=True)]
    return torch.tensor(lost) / (clean - corrupted)


def _margin(subject: Subject, these: Asked, *write: Intervention) -> float:
    logits = subject.run(these.inputs, write=write).logits
    assert logits is not None
    return float(these.margins(logits).mean())


def _truth(subject: Subject, task: str, n: int) -> Bool[Tensor, " h"]:
    return effects(subject, task, n).abs() >= PART


@dataclass(frozen=True)
class _Settings:
    place: str
    latents: int
    l1: float


def _rows(subject: Subject, these: Asked, place: str) -> Float[Tensor, "b h d"]:
    given = _given(subject, these.inputs)
    if place == "last":
        return given[torch.arange(len(given)), these.last]
    real = real_text(these.inputs)[:, :, None, None]
    return (given * real).sum(1) / real.sum(1)


def _codes(rows: Float[Tensor, "b h d"], settings: _Settings, seed: int, rounds: int) -> Int[Tensor, "b h"]:
    """Step 3: of an autoencoder fitted to the rows; of one that is not where rounds is 0."""
    x = rows.flatten(0, 1)
    sae = Discrete(reads={PORT: x.shape[1]}, n_latents=settings.latents, l1=settings.l1, seed=seed)
    if rounds:
        fit(sae, store_of({PORT: x}, name="heads"), Plan(rows=rounds * len(x), batch=128, seed=seed))
    else:
        sae.begin(Batch({PORT: x}, torch.zeros(len(x), 2, dtype=torch.long)))
    return sae.eval().numbers(x).view(rows.shape[:2])


def unique(codes: Int[Tensor, "b h"], positive: Bool[Tensor, " b"]) -> Float[Tensor, " h"]:
    """Of every head's codes, the share that only rows with `positive` have."""
    found = []
    for one in codes.T:
        every, others = set(one.tolist()), set(one[~positive].tolist())
        found.append(len(every - others) / len(every))
    return torch.tensor(found)


def _tuned(subject: Subject, truths: dict[str, Tensor], prompts: int, rounds: int) -> _Settings:
    """Step 4: the settings of best mean ROC-AUC on tasks that are not judged."""
    reached: dict[_Settings, float] = dict.fromkeys(itertools.starmap(_Settings, itertools.product(PLACES, LATENTS, L1S)), 0.0)
    positive = torch.arange(2 * prompts) < prompts
    for task in OTHERS:
        both = asked(subject, task, prompts, seed=TUNING, split="train")
        rows = {place: torch.cat([_rows(subject, one, place) for one in both]) for place in PLACES}
        for settings in reached:
            scores = unique(_codes(rows[settings.place], settings, TUNING, rounds), positive)
            reached[settings] += auroc(scores, truths[task])
    return max(reached, key=lambda one: reached[one])


def _scored(
    subject: Subject, task: str, truth: Bool[Tensor, " h"], settings: _Settings, seed: int, prompts: int, rounds: int,
    draws: int,
) -> dict[str, float]:  # fmt: skip
    """Steps 2 to 5: every ROC-AUC, and the seconds of processor time that codes took from prompts to scores."""
    both = asked(subject, task, prompts, seed=seed, split="train")
    began = time.process_time()
    rows = torch.cat([_rows(subject, one, settings.place) for one in both])
    positive = torch.arange(2 * prompts) < prompts
    codes = _codes(rows, settings, seed, rounds)
    scores = unique(codes, positive)
    seconds = time.process_time() - began
    draw = torch.Generator().manual_seed(seed)
    mixed = [unique(codes, positive[torch.randperm(2 * prompts, generator=draw)]) for _ in range(draws)]
    return {
        "codes": auroc(scores, truth),
        "seconds": seconds,
        "mixed up": sum(auroc(one, truth) for one in mixed) / draws,
        "not trained": auroc(unique(_codes(rows, settings, seed, 0), positive), truth),
        "gradient": auroc(_attributed(subject, both[0]), truth),
        "length": auroc(rows[positive].norm(dim=2).mean(0), truth),
        "difference": auroc((rows[positive].mean(0) - rows[~positive].mean(0)).norm(dim=1), truth),
    }


def _attributed(subject: Subject, these: Asked) -> Float[Tensor, " h"]:
    """To first order, how much the margin moves when a head's mean stands in its place."""
    wholes = [site for site in subject.sites if site.kind == "z"]
    with torch.enable_grad():
        run = subject.run(these.inputs, read=[*wholes, Site("logits")], grad=True)
        logits = run.acts[Site("logits")]
        slopes = torch.autograd.grad(these.margins(logits).mean(), [run.acts[site] for site in wholes])
    real = real_text(these.inputs)
    found = []
    for site, slope in zip(wholes, slopes, strict=True):
        given = run.acts[site].detach()
        off = (given - given[real].mean(0)) * real[:, :, None, None]
        found.append((off * slope).sum((0, 1, 3)).abs())
    return torch.cat(found)
