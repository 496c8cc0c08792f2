"""Formats of other packages on the command line."""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from actscope.core import artifact, methods
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, UsageError
from actscope.core.store import Store
from actscope.core.subject import Subject


def made(name: str, **choices: object) -> Any:
    """The format of that name, with the choices that were made. Raises UsageError for one that it does not take."""
    kind = methods.find("interop", name)
    takes = inspect.signature(kind).parameters  # type: ignore[arg-type]
    given = {key: value for key, value in choices.items() if value is not None}
    if unknown := [f"--{key.replace('_', '-')}" for key in given if key not in takes and key != "sites"]:
        raise UsageError(f"{name} does not take {', '.join(unknown)}; leave it out.")
    return kind(**{key: value for key, value in given.items() if key in takes})  # type: ignore[operator]


def described(dictionary: Dictionary) -> dict[str, object]:
    return {
        "method": methods.name_of("dictionaries", dictionary),
        "latents": dictionary.n_latents,
        "reads": ", ".join(map(str, dictionary.reads)),
        "writes": ", ".join(map(str, dictionary.writes)),
    }


def real_rows(dictionary: Dictionary, subject: Subject | None, store: Path | None, rows: int, seed: int) -> Tensor | None:
    """Activations of the sites read, side by side: of the store where there is one, else of the subject reading Python; None
    without either.

    Raises BadInput where the store or the subject does not have those sites in those widths.
    """
    if rows < 1:
        raise UsageError(f"--rows {rows}; expected at least 1.")
    if store is not None:
        kept = artifact.open(store)
        if not isinstance(kept, Store):
            raise BadInput(f"{store} is no store; expected a folder made by `actscope capture`.")
    elif subject is not None:
        from actscope.corpora.standard_library import standard_library
        from actscope.stores.capture import capture

        kept = capture(subject, standard_library(split="held"), [port.site for port in dictionary.reads], tokens=rows)
    else:
        return None
    missing = [f"{port} in width {size}" for port, size in dictionary.reads.items() if kept.ports.get(port) != size]
    if missing:
        raise BadInput(
            f"The dictionary reads {', '.join(missing)}; there are "
            f"{', '.join(f'{port} ({size})' for port, size in kept.ports.items())}. Give the model it was made on, or "
            "name the site with --reads."
        )
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed))
    return dictionary.joined(kept.rows(order[:rows], dictionary.reads).acts)
