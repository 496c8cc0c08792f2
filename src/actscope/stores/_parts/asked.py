"""What a call asks for, checked, as the settings of the store that it makes."""

from collections.abc import Iterable

import torch

from actscope.core.corpus import Corpus
from actscope.core.errors import BadInput
from actscope.core.site import Site, resolve
from actscope.core.subject import Subject
from actscope.stores._parts import formats
from actscope.stores._parts.pieces import sample
from actscope.stores._parts.running import probe


def asked(
    subject: Subject,
    corpus: Corpus,
    sites: Iterable[str | Site] | str | Site,
    *,
    unit: int,
    tokens: int | None,
    context: int | None,
    packed: bool,
    special: bool,
    grads: bool,
    dtype: str | None,
    sinks: bool,
    start: int,
    threads: int | None,
) -> tuple[list[Site], dict[str, object]]:
    """(sites, settings). Raises BadInput. A later setting is left out at its default: the hashes of earlier stores hold."""
    names = resolve(sites, subject.sites, subject.missing)
    context = _context(subject, context)
    formats.known(dtype)
    if not names or (tokens is not None and tokens < 1) or start < 0 or (threads is not None and threads < 1):
        raise BadInput(
            f"sites={names}, tokens={tokens}, start={start}, threads={threads}: expected a site, and numbers from 1."
        )
    return names, {
        "ports": [[str(port), width] for port, (width, _) in probe(subject, names, sample(subject, corpus)).items()],
        "subjects": {"": subject.fingerprint},
        "corpus": corpus.fingerprint,
        "tokens": tokens,
        "context": context,
        "packed": packed,
        "special": special,
        "start": start,
        "unit": unit,
        "threads": threads or torch.get_num_threads(),
        **({"grads": True} if grads else {}),
        **({"roles": True} if special else {}),
        **({} if dtype is None else {"dtype": dtype}),
        **({"sinks": True} if sinks else {}),
    }


def _context(subject: Subject, context: int | None) -> int:
    if context is not None and not 1 < context <= subject.context:
        raise BadInput(f"context={context} was given; {subject.name} takes 2 to {subject.context} tokens.")
    return context or subject.context
