"""actscope import"""

from pathlib import Path
from typing import Any

__all__ = ["import_"]

LARGEST = 1e-3  # a conversion that is further off than this is not saved


def import_(
    format: str,
    path: Path,
    *,
    out: Path,
    model: str | None = None,
    store: Path | None = None,
    reads: str | None = None,
    writes: str | None = None,
    layer: int | None = None,
    input_scale: float | None = None,
    unpickle: bool = False,
    rows: int = 2048,
    seed: int = 0,
    json: bool = False,
) -> None:
    """Convert a dictionary of another package, and say how far the conversion is from the original on real activations.

    Args:
        format: saelens, sparsify, dictionary_learning, gemma_scope or circuit_tracer.
        path: the file or folder that the package wrote.
        out: folder to save the dictionary in.
        model: the model it belongs to: pocket, a transformers folder or a hub id. Its sites resolve module paths, and the
            conversion is measured on what it reads in the Python standard library's text.
        store: folder of activations made by `actscope capture`, to measure the conversion on instead.
        reads: the site it reads, where the files name none or another is meant.
        writes: the site it writes, likewise.
        layer: the one to read, of a set with one a layer.
        input_scale: what the input was multiplied by in training, where the files say that it was and not by how much.
        unpickle: have a pickle opened, weights only, in a process of its own.
        rows: activations to measure on.
        seed: of the rows drawn from a store.
        json: print one JSON document and nothing else.
    """
    import dataclasses

    from actscope.cli import _common
    from actscope.cli._foreign import described, made, real_rows
    from actscope.core import artifact
    from actscope.subjects.load import load

    subject = None if model is None else load(model)
    choices = {"reads": reads, "writes": writes, "layer": layer, "input_scale": input_scale, "unpickle": unpickle or None}
    found = made(format, sites=None if subject is None else subject.sites, **choices).open(path)
    x = real_rows(found.dictionary, subject, store, rows, seed)
    fidelity = None if x is None else found.fidelity(x)
    _near_enough(found.dictionary, fidelity)
    if subject is not None:
        found.dictionary.subject = subject.fingerprint
    artifact.save(found.dictionary, out, interop=dict(found.numerics))
    error = None if fidelity is None else dataclasses.asdict(fidelity)
    if json:
        return _common.print_json({"out": str(out), "error": error, **described(found.dictionary), "stated": found.numerics})
    _show(out, described(found.dictionary), found.numerics, error)


def _near_enough(dictionary: Any, fidelity: Any) -> None:
    """Raises BadInput for a conversion that was measured and is too far off."""
    from actscope.cli._foreign import described
    from actscope.core.errors import BadInput

    if fidelity is not None and not max(fidelity.codes, fidelity.reconstruction) <= LARGEST:
        raise BadInput(
            f"On {fidelity.rows:,} rows of {described(dictionary)['reads']} the converted dictionary is off by "
            f"{fidelity.codes:.1e} (codes) and {fidelity.reconstruction:.1e} (reconstruction), more than {LARGEST:.0e}; "
            "nothing was saved."
        )


def _show(out: Path, facts: dict, stated, error: dict | None) -> None:
    from rich.table import Table

    from actscope.cli import _common

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in [*facts.items(), *((name, value) for name, value in stated.items() if name != "converted")]:
        table.add_row(name, str(value))
    for what in stated["converted"]:
        table.add_row("converted", what)
    console = _common.console()
    console.print(table)
    if error is None:
        console.print("The conversion was not measured: give --model or --store to measure it on real activations.")
    else:
        console.print(
            f"Largest relative error on {error['rows']:,} real activations: codes {error['codes']:.1e}, reconstruction "
            f"{error['reconstruction']:.1e}; {error['ties']} rows with a latent on the edge left out."
        )
    console.print(f"Saved in {out}.")
