"""One pass of a dictionary over a store, keeping for every latent what explainers and scores look at.

1. Encode the rows in corpus order, a fixed number at a time, and forget each batch once it is counted.
2. Of every latent count firings, sum values, and count values in bins an eighth of an octave wide.
3. Keep its n largest values with their places; and a uniform sample of its firings, with the latents that fire beside it.
4. At the end: who fires together (Jaccard index, estimated from the sample), whose atoms point alike (cosine), and, where a
   subject is given, which logits a latent's direction raises and lowers (core.lens).

What is kept has one size, 84 examples and a histogram a latent: it does not grow with the rows. All is a function of store,
dictionary, settings and seed: the sample is drawn by a hash of row and latent, ties go to the earlier row.
Letters: n rows, m latents.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from actscope.core import artifact, files
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted, NotFinite, UnknownSite, WrongSubject
from actscope.core.latents import Effects, Latents, Near
from actscope.core.lens import logit_effects
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.store import Store, same_subject
from actscope.core.subject import Subject
from actscope.ops import exact_topk
from actscope.stores._parts.running import threads_of
from actscope.stores._parts.tally import Tally
from actscope.stores._parts.unfinished import Unfinished, unfinished

__all__ = ["latent_cache"]

ROWS = 4096  # encoded at a time: part of the settings, for how a product is cut decides its last bits
_EVERY = 60.0  # seconds after which the state is committed
_LENS = 256  # latents whose logits are held at a time


def latent_cache(
    dictionary: Dictionary,
    store: Store,
    *,
    documents: Iterable[int] | None = None,
    subject: Subject | None = None,
    top: int = 20,
    per_document: int | None = None,
    sample: int = 64,
    near: int = 10,
    tokens: int = 10,
    seed: int = 0,
    out: Path | str | None = None,
    threads: int | None = None,
    progress: Progress = quiet,
) -> Latents:
    """What a store shows of a dictionary's latents.

    documents: read only these. subject: the one the store was captured from; with it the `tokens` logits that each latent
    raises and lowers most are told. top, sample: examples kept of each latent; per_document: how many of the top may come from
    one document, None for all. near: others that are told of each.
    out: a folder to keep it in, committed every minute; the same call after an interruption goes on where it stopped, to the
    same bytes, and a finished one is opened. threads: of torch, those it has when left out, and those it began with on resume.

    Raises UnknownSite for a port the store lacks; WrongSubject; NotFinite for codes that are not; BadInput for no rows, for
    numbers that cannot be, and where `out` holds something else or is being written; Interrupted; DiskFull.
    """
    numbers = {"top": top, "per_document": per_document, "sample": sample, "near": near, "tokens": tokens}
    _check(dictionary, store, subject, numbers)
    listed = None if documents is None else sorted(documents)
    settings = {
        **numbers,
        "dictionary": _digest(dictionary),
        "store": store.content,
        "documents": None if listed is None else files.sha256(json.dumps(listed).encode()),
        "subject": "" if subject is None else subject.fingerprint,
        "seed": seed,
        "rows": ROWS,
    }
    if out is None:
        with threads_of(threads or torch.get_num_threads()):
            return _collected(dictionary, store, subject, settings, listed, None, progress)
    with unfinished(out, settings, threads) as kept, threads_of(kept.threads):
        if not kept.finished:
            kept.finish(_collected(dictionary, store, subject, settings, listed, kept, progress))
    found = artifact.open(out)
    assert isinstance(found, Latents)
    return found


def _check(dictionary: Dictionary, store: Store, subject: Subject | None, numbers: Mapping[str, int | None]) -> None:
    """Refuse what cannot be."""
    for port in dictionary.reads:
        if port not in store.ports:
            raise UnknownSite(
                f"The store has no {port}; it has {', '.join(map(str, store.ports))}. Capture again with that site among "
                "--sites, or give a dictionary of one of these."
            )
    if subject is not None:
        same_subject(store, subject)
        logit_effects(dictionary, subject, [0])  # refused now, not after the pass
    if dictionary.subject and dictionary.subject not in store.subjects.values():
        raise WrongSubject(
            f"The dictionary was trained on a subject with fingerprint {dictionary.subject[:12]}; the store was captured from "
            f"{', '.join(made[:12] for made in store.subjects.values())}. Capture from the subject it was trained on."
        )
    if min(1 if number is None else number for number in numbers.values()) < 1:
        raise BadInput(f"{', '.join(f'{name}={number}' for name, number in numbers.items())}; expected 1 or more of each.")
    if not len(store):
        raise BadInput("The store has no rows; expected one that something was captured into.")
    if len(store) >= 2**31 or dictionary.n_latents >= 2**21:
        raise BadInput(
            f"{len(store):,} rows and {dictionary.n_latents:,} latents; expected fewer than 2,147,483,648 and 2,097,152."
        )


def _digest(dictionary: Dictionary) -> str:
    """A hash of what a dictionary is and holds."""
    digest = hashlib.sha256(f"{type(dictionary).__module__} {dictionary.settings} {[*map(str, dictionary.ports)]}".encode())
    for name, x in sorted(dictionary.state_dict().items()):
        digest.update(f"{name} {x.dtype} {tuple(x.shape)}".encode())
        digest.update(x.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _collected(
    dictionary: Dictionary,
    store: Store,
    subject: Subject | None,
    settings: dict,
    documents: list[int] | None,
    kept: Unfinished | None,
    progress: Progress,
) -> Latents:
    tally = Tally(dictionary.n_latents, top=settings["top"], sample=settings["sample"], most=settings["per_document"] or 0,
                  seed=settings["seed"])  # fmt: skip
    rows = _passed(dictionary, store, tally, documents, kept, progress)
    if not rows:
        raise BadInput("None of the documents given has a row in the store; `store.documents` lists those it has.")
    p = settings["near"]
    raised, lowered = (None, None) if subject is None else _effects(dictionary, subject, settings["tokens"])
    return Latents(
        dictionary=settings["dictionary"],
        store=settings["store"],
        seed=settings["seed"],
        rows=rows,
        fired=tally.fired,
        total=tally.total,
        histogram=tally.histogram,
        top=tally.top.examples(),
        sample=tally.sample.examples(),
        together=Near(*tally.together(p)),
        alike=_alike(dictionary, p),
        promoted=raised,
        suppressed=lowered,
    )


@torch.no_grad()
def _passed(
    dictionary: Dictionary,
    store: Store,
    tally: Tally,
    documents: list[int] | None,
    kept: Unfinished | None,
    progress: Progress,
) -> int:
    """The pass, or what is left of it; how many rows it read in all."""
    wanted = None if documents is None else torch.tensor(documents, dtype=torch.long)
    seen = torch.zeros((), dtype=torch.long)
    done, state, last = 0, {**tally.state(), "seen": seen}, time.monotonic()
    if kept is not None and kept.done:
        done, before = kept.done, kept.state()
        tally.load(before)
        seen.copy_(before["seen"])
    for batch in store.batches(list(dictionary.reads), ROWS, start=done):
        row = torch.arange(done * ROWS, done * ROWS + len(batch))
        acts, where = {port: batch.acts[port] for port in dictionary.reads}, batch.where
        if wanted is not None:
            some = torch.isin(where[:, 0], wanted).nonzero()[:, 0]
            acts, where, row = {port: x[some] for port, x in acts.items()}, where[some], row[some]
        if len(row):
            codes = dictionary.encode(acts)
            if not codes.value.isfinite().all():
                raise NotFinite(
                    f"The codes of rows {int(row[0]):,} to {int(row[-1]):,} are NaN or infinite; expected finite weights and "
                    "activations. Fit the dictionary again, or look at what was captured."
                )
            tally.add(codes, row, where)
        seen += len(row)
        done += 1
        files.fault_point("latents.batch")
        stop = stop_requested()
        if kept is not None and (stop or time.monotonic() - last >= _EVERY):
            kept.commit(state, done)
            last = time.monotonic()
        if stop:
            raise Interrupted(
                "Stopped; " + ("give out= to go on later." if kept is None else "the same command goes on from here.")
            )
        progress(min(done * ROWS, len(store)), len(store), "rows")
    return int(seen)


def _alike(dictionary: Dictionary, p: int) -> Near:
    """The latents whose atoms, over all ports written, have the largest cosines with each one's."""
    atoms = torch.cat([x.detach().float().cpu() for x in dictionary.atoms.values()], dim=1)
    atoms = torch.nn.functional.normalize(atoms, dim=1)
    m = len(atoms)
    index, value = exact_topk.fast(atoms, atoms, torch.zeros(m), min(p + 1, m))
    value = torch.where(index == torch.arange(m)[:, None], 0.0, value)
    order = value.argsort(dim=1, descending=True, stable=True)[:, :p]
    value = value.gather(1, order)
    return Near(torch.where(value > 0, index.gather(1, order), -1), value)


def _effects(dictionary: Dictionary, subject: Subject, t: int) -> tuple[Effects, Effects]:
    """The logits raised and lowered most."""
    parts: tuple[list[Tensor], ...] = ([], [], [], [])
    for own in torch.arange(dictionary.n_latents).split(_LENS):
        effects = logit_effects(dictionary, subject, own.tolist())
        for number, largest in enumerate((True, False)):
            change, token = effects.topk(min(t, effects.shape[1]), dim=1, largest=largest)
            parts[2 * number].append(token)
            parts[2 * number + 1].append(change)
    raised, by, lowered, down = map(torch.cat, parts)
    return Effects(raised, by), Effects(lowered, down)
