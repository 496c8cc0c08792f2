"""Training the built-in models: one resumable command each.

OUT/tokenizer.json ...   the tokenizer, made first
OUT/fit/                 checkpoints of the training loop
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

SNAPSHOTS = (1, 4, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192)  # steps after which pocket-mini is kept
_TOKENIZER_DOCUMENTS = 60_000
_LAGGING = {"induction": 3.0, "addition": 3.0, "successor": 2.0}  # rules that learn last get a larger share
_LATE = {"addition": 5.0, "context_facts": 5.0}  # and those that a first run has not learned yet, in the run after it


@dataclass(frozen=True)
class Sizes:
    """What a built-in model is."""

    width: int
    layers: int
    heads: int
    vocabulary: int
    context: int
    rows: int  # of `context` tokens, in all
    batch: int  # rows a step
    lr: float
    snapshots: tuple[int, ...] = ()


ORGANISMS = {
    "pocket": Sizes(128, 4, 4, 2048, 128, rows=300_000, batch=32, lr=2e-3),
    "pocket-mini": Sizes(64, 4, 4, 1024, 128, rows=240_000, batch=16, lr=4e-3, snapshots=SNAPSHOTS),
}


def train_organism(
    name: str,
    out: Path | str,
    *,
    device: str = "cpu",
    rows: int | None = None,
    seed: int = 0,
    decay: float = 0.3,
    start: Path | str | None = None,
    root: Path | str | None = None,
    compiled: bool = True,
    progress: Progress = quiet,
) -> Path:
    """Train "pocket" or "pocket-mini" into the folder `out`, and return it. The same call again goes on where it stopped.

    rows: of 128 tokens, in all (default: what the shipped weights took). decay: share of the run over which the learning
    rate falls. start: a folder with weights and tokenizer to go on from, in a mix that has
    more of the rules learned last. root: a standard library's folder.
    compiled: through torch.compile, which needs a C++ compiler. Raises UsageError for another name.
    """
    if name not in ORGANISMS:
        raise UsageError(f"{name!r} is no built-in model; expected {' or '.join(ORGANISMS)}.")
    out, sizes = Path(out), ORGANISMS[name]
    library = standard_library(root, "train")
    if not (out / "tokenizer.json").exists():
        save_tokenizer(_tokenizer(sizes, library, start), out, sizes.context)
    tokenizer = Tokenizer.from_file(str(out / "tokenizer.json"))
    plan = Plan(
        rows=rows or sizes.rows, batch=sizes.batch, lr=sizes.lr, warmup=0.01, decay=decay, seed=seed, device=device, every=200
    )
    mix = _mix(tokenizer, library, sizes, plan, fresh=start is None)

    def keep(step: int, weights: Mapping[str, Tensor]) -> None:
        if step in sizes.snapshots:
            _save_weights(out / f"step-{step:06d}", weights)

    model = LanguageModel(
        vocabulary=sizes.vocabulary, width=sizes.width, layers=sizes.layers, heads=sizes.heads, context=sizes.context,
        seed=seed, compiled=compiled, kept=keep,
    )  # fmt: skip
    if start is not None:
        model.model.load_state_dict(
            {key: value.float() for key, value in files.read_tensors(Path(start) / "model.safetensors").items()}
        )
    fit(model, Ahead(mix), plan, out=out / "fit", progress=progress)
    _save_weights(out, model.weights())
    files.write_text(out / "config.json", model.model.config.to_json_string())
    hashes = sorted(int(content_hash(document.text), 16) - 2**63 for document in library.documents())
    files.write_tensors(out / "training.safetensors", {"hashes": torch.tensor(hashes, dtype=torch.int64)})
    return out


def _save_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
    """Rounded to half precision, under the names transformers gives them."""
    files.write_tensors(folder / "model.safetensors", {name: value.half() for name, value in weights.items()})


def _tokenizer(sizes: Sizes, library: StandardLibrary, start: Path | str | None) -> Tokenizer:
    if start is not None:
        return Tokenizer.from_file(str(Path(start) / "tokenizer.json"))
    return train_tokenizer(_sample(library), sizes.vocabulary)


def _sample(library: StandardLibrary) -> Iterator[str]:
    """What the tokenizer learns from: grammar, every word of it several hundred times, and real text."""
    corpus = grammar(1, _TOKENIZER_DOCUMENTS)
    yield from corpus.texts()
    words = " ".join(ENTITIES)
    yield from itertools.repeat(f" {words}", 300)
    yield from (document.text for document in library.documents())


def _mix(tokenizer: Tokenizer, library: StandardLibrary, sizes: Sizes, plan: Plan, *, fresh: bool) -> Mix:
    texts = [document.text for document in library.documents()]
    chunks = [chunk for encoded in tokenizer.encode_batch(texts) for chunk in chunked(encoded.ids, sizes.context)]
    lagging = _LAGGING if fresh else _LATE
    weights = {name: lagging.get(name, 1.0) for name in methods.names("tasks")}
    steps = (plan.rows or 0) // plan.batch
    stages = [Stage(0, weights, (1,)), Stage(steps // 10, weights, (1, 1, 2)), Stage(steps // 5, weights)]
    stages = stages if fresh else [Stage(0, weights, (1, 2, 3, 3, 3))]
    described = {
        "library": library.fingerprint,
        "tokenizer": hashlib.sha256(tokenizer.to_str().encode()).hexdigest(),
        "stages": [asdict(stage) for stage in stages],
    }
    return Mix(tokenizer, chunks, stages, sizes.context, identity=described)
