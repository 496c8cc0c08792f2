"""Running a planned unit and laying its rows out in corpus order.

Letters: n rows, d width of a site.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from actscope.core.errors import BadInput, NotFinite
from actscope.core.inputs import Inputs, Run, predicted_text
from actscope.core.site import Port, Site
from actscope.core.subject import Subject
from actscope.stores._parts import formats
from actscope.stores._parts.immense import parted
from actscope.stores._parts.pieces import Planned, inputs_of, layout, rows_of

LOGITS = Site("logits")


def probe(subject: Subject, sites: Iterable[Site], given: Inputs) -> dict[Port, tuple[int, torch.dtype]]:
    """(width with heads flattened, dtype) of every site, seen by running what is given. Raises BadInput for attention maps and
    for what stands for other things than the tokens read."""
    sites = list(sites)
    for site in sites:
        info = subject.sites.get(site.whole)
        if info is not None and (info.width == 0 or "u" in info.shape or len(info.shape) < 3):
            raise BadInput(f"{site} has no row per token and cannot be stored; read it live: subject.run(inputs, read=[...]).")
    with torch.no_grad():
        acts = subject.run(given, read=sites).acts
    return {Port(site): (acts[site].flatten(2).shape[2], acts[site].dtype) for site in sites}


def run_unit(
    subject: Subject, unit: Planned, sites: list[Site], settings: Mapping
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(rows, words) of one unit. rows: per port "acts.<port>" Float[n d], and "grads.<port>" where asked for. words: "where"
    and "token" of every row, and its "role" where special tokens have rows.

    Raises NotFinite naming the document and the site, BadInput for a site that the loss does not depend on.
    """
    pieces, packed = unit.pieces, settings["packed"]
    kept = [rows_of(piece, settings["special"]) for piece in pieces]
    words = words_of(unit, settings["special"])
    starts = torch.tensor([0, *(int(keep.sum()) for keep in kept)]).cumsum(0).tolist()
    n = starts[-1]
    rows: dict[str, Tensor] = {}
    valid = torch.ones(n, dtype=torch.bool)
    for batch in layout(pieces, settings["context"], packed):
        read, run = _read(subject, inputs_of(batch, pieces, packed), sites, settings.get("grads", False))
        source, target = _addresses(batch, kept, starts)
        for name, value in read.items():
            x = value.flatten(2).cpu()
            if name not in rows:
                rows[name] = x.new_empty(n, x.shape[2])
            rows[name][target] = x[source]
        for reached in run.valid.values():
            valid[target] &= reached.cpu()[source]
    if not valid.all():
        rows = {name: x[valid] for name, x in rows.items()}
        words = {name: x[valid] for name, x in words.items()}
    _check_finite(rows, words["where"], unit)
    return rows, words


def words_of(unit: Planned, special: bool) -> dict[str, Tensor]:
    """What is known of a unit's rows without running it."""
    pieces, none = unit.pieces, torch.zeros(0)
    kept = [rows_of(piece, special) for piece in pieces]
    where = [_where(piece.document, piece.first, keep) for piece, keep in zip(pieces, kept, strict=True)]
    words = {
        "where": torch.cat(where) if where else torch.zeros(0, 2, dtype=torch.long),
        "token": torch.cat([piece.ids[keep] for piece, keep in zip(pieces, kept, strict=True)] or [none]).int(),
    }
    if special:
        role = torch.cat([piece.roles[keep] for piece, keep in zip(pieces, kept, strict=True)] or [none])
        words["role"] = role.to(torch.uint8)
    return words


def tensors_of(
    unit: Planned, settings: Mapping, rows: dict[str, Tensor], words: dict[str, Tensor], over: Mapping[str, float]
) -> dict[str, Tensor]:
    """The tensors of one unit: its rows, "acts.<port>" in the settings' format (see formats) and "grads.<port>" as the model
    gives them, for they span too many orders of magnitude; its words; those set apart (see immense; over: the limits); "ids",
    "roles", "own" and "pieces" (document, first position, length) of every sequence; "names" of the documents as JSON bytes.

    Raises NotFinite for a number that float16 cannot hold.
    """
    rows, words, apart = parted(rows, words, over)
    return {**_formatted(rows, settings.get("dtype"), words["where"], unit), **words, **apart, **sequences(unit)}


def _formatted(rows: dict[str, Tensor], dtype: str | None, where: Tensor, unit: Planned) -> dict[str, Tensor]:
    """The rows as they are kept. Raises NotFinite for a number that the format cannot hold."""
    if dtype is None:
        return rows
    kept = {name: x for name, x in rows.items() if not name.startswith("acts.")}
    for name, x in rows.items():
        if name in kept:
            continue
        site = name.removeprefix("acts.")
        made = formats.stored(site, x, dtype)
        if dtype == "float16" and not (good := made[name].isfinite()).all():
            row, column = (~good).nonzero()[0].tolist()
            raise NotFinite(
                f"{site} is {float(x[row, column]):g} at {_place(where, row, unit)}; float16 holds numbers up to 65,504. Keep "
                "the rows as bfloat16, int8 or float32 (dtype=, --store-dtype)."
            )
        kept |= made
    return kept


def _read(subject: Subject, inputs: Inputs, sites: list[Site], grads: bool) -> tuple[dict[str, Tensor], Run]:
    """What stands at the sites and, with `grads`, the gradient there of the loss: the next-token cross-entropy in nats,
    summed over the tokens of text that text of the same document follows. One backward pass."""
    if not grads:
        with torch.no_grad():
            run = subject.run(inputs, read=sites)
        return {f"acts.{Port(site)}": run.acts[site] for site in sites}, run
    if inputs.ids is None:
        raise BadInput("grads=True was given with images, which have no loss of a next token; capture without grads.")
    if not subject.causal:
        raise BadInput(f"{subject.name} sees all tokens at once, so it has no loss of the next one; capture without grads.")
    run = subject.run(inputs, read=dict.fromkeys([*sites, LOGITS]), grad=True)
    predicts = predicted_text(inputs)
    logits, target = run.acts[LOGITS][predicts].float(), inputs.ids[:, 1:][predicts[:, :-1]]
    loss = torch.nn.functional.cross_entropy(logits, target.long().to(logits.device), reduction="sum")
    rows = {f"acts.{Port(site)}": run.acts[site].detach() for site in sites}
    found = torch.autograd.grad(loss, [run.acts[site] for site in sites], allow_unused=True)
    for site, grad in zip(sites, found, strict=True):
        if grad is None:
            raise BadInput(f"The model's loss has no gradient at {site}; leave it out, or capture without grads.")
        rows[f"grads.{Port(site)}"] = grad
    return rows, run


def _where(document: int, first: int, keep: Tensor) -> Tensor:
    position = keep.nonzero().flatten() + first
    return torch.stack([torch.full_like(position, document), position], dim=1)


def _addresses(batch: list[list[int]], kept: list[Tensor], starts: list[int]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Where the kept tokens of a batch stand in the run (row, column), and which row of the unit each becomes."""
    rows, columns, targets = [], [], []
    for y, row in enumerate(batch):
        x = 0
        for i in row:
            column = kept[i].nonzero().flatten() + x
            rows.append(torch.full_like(column, y))
            columns.append(column)
            targets.append(torch.arange(starts[i], starts[i + 1]))
            x += len(kept[i])
    return (torch.cat(rows), torch.cat(columns)), torch.cat(targets)


def sequences(unit: Planned) -> dict[str, Tensor]:
    """What a unit holds beside its rows: the sequences as they are run, and the names of its documents."""
    pieces = unit.pieces
    none = torch.zeros(0)
    shape = [[piece.document, piece.first, len(piece)] for piece in pieces]
    return {
        "ids": torch.cat([piece.ids for piece in pieces] or [none]).int(),
        "roles": torch.cat([piece.roles for piece in pieces] or [none]).to(torch.uint8),
        "own": torch.cat([piece.own for piece in pieces] or [none]).bool(),
        "pieces": torch.tensor(shape, dtype=torch.long).reshape(-1, 3),
        "names": torch.frombuffer(bytearray(json.dumps([unit.first, list(unit.names)]).encode()), dtype=torch.uint8),
    }


def _check_finite(rows: Mapping[str, Tensor], where: Tensor, unit: Planned) -> None:
    for name, x in rows.items():
        if x.sum(dtype=torch.float32).isfinite():  # a sum of finite numbers may be infinite: then each is looked at
            continue
        good = x.isfinite()
        if not good.all():
            row = int((~good).any(1).nonzero()[0])
            kind, _, site = name.partition(".")
            what = f"The gradient at {site}" if kind == "grads" else site
            raise NotFinite(
                f"{what} is NaN or infinite at {_place(where, row, unit)}; expected finite numbers. Look at the model's "
                "weights, or load it with --dtype float32."
            )


def _place(where: Tensor, row: int, unit: Planned) -> str:
    document, position = where[row].tolist()
    return f"token {position} of document {unit.names[document - unit.first]!r} (number {document})"


@contextlib.contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Torch with `count` threads inside: how a product is split over threads decides its last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
