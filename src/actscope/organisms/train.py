"""Training the built-in models: one resumable command each.

OUT/tokenizer.json ...   the tokenizer, made first
OUT/fit-1/ OUT/fit-2/    the runs of the training loop, one after the other
OUT/step-000128/         snapshots on a logarithmic scale (pocket-mini)
OUT/config.json, model.safetensors (fp16), training.safetensors   the result
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from actscope.core import files, methods
from actscope.core.errors import UsageError
from actscope.core.progress import Progress, quiet
from actscope.corpora.standard_library import StandardLibrary, content_hash, standard_library
from actscope.organisms._ahead import Ahead
from actscope.organisms._mix import Mix, Stage, chunked
from actscope.organisms._model import LanguageModel
from actscope.organisms._tokenizer import save_tokenizer, train_tokenizer
from actscope.organisms.grammar import grammar
from actscope.tasks._parts.words import ENTITIES
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["train_organism"]

_SNAPSHOTS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192)  # steps after which pocket-mini is kept
_TOKENIZER_DOCUMENTS = 60_000
_EARLY = {"induction": 3.0, "addition": 3.0, "successor": 2.0}  # rules that take longest get a larger share
_LATE = {"addition": 5.0, "context_facts": 5.0}  # those that a first run has not learned yet, in the run after it


@dataclass(frozen=True)
class Run:
    """One run of the training loop. Its moments begin afresh; its weights are those the run before left."""

    rows: int  # of `context` tokens, in all
    decay: float  # share of the run, the end of it, over which the learning rate falls
    late: bool = False  # the mix for the rules learned last; else numbers of one digit are added first


@dataclass(frozen=True)
class Recipe:
    """What a built-in model is and how it is trained."""

    width: int
    layers: int
    heads: int
    vocabulary: int
    context: int
    batch: int  # rows a step
    lr: float
    runs: tuple[Run, ...]
    snapshots: tuple[int, ...] = ()


ORGANISMS = {
    "pocket": Recipe(128, 4, 4, 2048, 128, batch=32, lr=2e-3, runs=(Run(300_000, 0.3), Run(300_000, 0.4, late=True))),
    "pocket-mini": Recipe(64, 4, 4, 896, 128, batch=16, lr=3e-3, runs=(Run(160_000, 0.3),), snapshots=_SNAPSHOTS),
}


def train_organism(
    name: str,
    out: Path | str,
    *,
    device: str = "cpu",
    scale: float = 1.0,
    seed: int = 0,
    root: Path | str | None = None,
    compiled: bool = True,
    progress: Progress = quiet,
) -> Path:
    """Train "pocket" or "pocket-mini" into the folder `out`, and return it. The same call again goes on where it stopped.

    scale: share of the tokens that the shipped weights took. root: a standard library's folder. compiled: through
    torch.compile, which needs a C++ compiler. Raises UsageError for another name or a scale that is not above 0;
    Interrupted, after saving, when asked to stop.
    """
    if name not in ORGANISMS or scale <= 0:
        raise UsageError(f"{name!r} at scale {scale}; expected {' or '.join(ORGANISMS)} and a scale above 0.")
    out, recipe = Path(out), ORGANISMS[name]
    library = standard_library(root, "train")
    if not (out / "tokenizer.json").exists():
        save_tokenizer(train_tokenizer(_sample(library), recipe.vocabulary), out, recipe.context)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    model = _model(recipe, out, seed, compiled)
    for number, run in enumerate(recipe.runs):
        rows = max(recipe.batch, round(run.rows * scale))
        plan = Plan(
            rows=rows, batch=recipe.batch, lr=recipe.lr, warmup=0.01, decay=run.decay, seed=seed + number, device=device,
            every=200,
        )  # fmt: skip
        fit(model, Ahead(_mix(tokenizer, library, recipe, run, rows)), plan, out=out / f"fit-{number + 1}", progress=progress)
    _save_weights(out, model.weights())
    files.write_text(out / "config.json", model.model.config.to_json_string())
    hashes = sorted(int(content_hash(document.text), 16) - 2**63 for document in library.documents())
    files.write_tensors(out / "training.safetensors", {"hashes": torch.tensor(hashes, dtype=torch.int64)})
    return out


def _model(recipe: Recipe, out: Path, seed: int, compiled: bool) -> LanguageModel:
    def keep(step: int, weights: Mapping[str, Tensor]) -> None:
        if step in recipe.snapshots:
            _save_weights(out / f"step-{step:06d}", weights)

    return LanguageModel(
        vocabulary=recipe.vocabulary, width=recipe.width, layers=recipe.layers, heads=recipe.heads, context=recipe.context,
        seed=seed, compiled=compiled, kept=keep,
    )  # fmt: skip


def _save_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Rounded to half precision, under the names transformers gives them."""
    files.write_tensors(folder / "model.safetensors", {name: value.half() for name, value in weights.items()})


def _sample(library: StandardLibrary) -> Iterator[str]:
    """What the tokenizer learns from: grammar, every word of it several hundred times, and real text."""
    corpus = grammar(1, _TOKENIZER_DOCUMENTS)
    yield from corpus.texts()
    words = " ".join(ENTITIES)
    yield from itertools.repeat(f" {words}", 300)
    yield from (document.text for document in library.documents())


def _mix(tokenizer: Tokenizer, library: StandardLibrary, recipe: Recipe, run: Run, rows: int) -> Mix:
    texts = [document.text for document in library.documents()]
    chunks = [chunk for encoded in tokenizer.encode_batch(texts) for chunk in chunked(encoded.ids, recipe.context)]
    shares = _LATE if run.late else _EARLY
    weights = {name: shares.get(name, 1.0) for name in methods.names("tasks")}
    steps = rows // recipe.batch
    stages = [Stage(0, weights, (1,)), Stage(steps // 10, weights, (1, 1, 2)), Stage(steps // 5, weights)]
    stages = [Stage(0, weights, (1, 2, 3, 3, 3))] if run.late else stages
    described = {
        "library": library.fingerprint,
        "tokenizer": hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
        "stages": [asdict(stage) for stage in stages],
    }
    return Mix(tokenizer, chunks, stages, recipe.context, identity=described)
