"""actscope reproduce"""

from pathlib import Path
from typing import Any

__all__ = ["reproduce"]


def reproduce(
    slug: str | None = None, *, list: bool = False, full: bool = False, out: Path | None = None, json: bool = False
) -> None:
    """Measure a paper's headline claim again, scaled down, beside the paper's own baseline and a control.

    Examples: `actscope reproduce --list`, `actscope reproduce attn-sae`. A claim that does not hold is told with its figures,
    and is no error.

    Args:
        slug: which one, as `--list` names them.
        list: say what can be reproduced, with what the last full run of each found, and do nothing.
        full: more seeds and more data; the result is kept in the package.
        out: folder to save the result in.
        json: print one JSON document and nothing else.
    """
    from actscope.cli import _common
    from actscope.core import artifact
    from actscope.core.errors import UsageError
    from actscope.reproductions._parts import kept

    if list or slug is None:
        if slug is not None or full or out is not None:
            raise UsageError("`actscope reproduce --list` takes nothing else; to run one, name it and leave --list out.")
        return _list(json)
    result = _run(slug, full)
    if out is not None:
        artifact.save(result, out)
    if json:
        return _common.print_json(kept.told(result))
    _show(result)


def _run(slug: str, full: bool) -> Any:
    import dataclasses

    from actscope.cli import _common
    from actscope.core import methods
    from actscope.reproductions._parts import kept

    run: Any = methods.find("reproductions", slug.replace("-", "_"))
    result = run(full=full, progress=_common.plain_progress(f"reproduce {slug}"))
    return dataclasses.replace(result, full=kept.keep(result) if full else kept.last(slug))


def _list(json: bool) -> None:
    import inspect

    from rich.table import Table

    from actscope.cli import _common
    from actscope.core import methods
    from actscope.reproductions._parts import kept

    found = {}
    for name in methods.names("reproductions"):
        says = inspect.getdoc(methods.find("reproductions", name)) or ""
        found[name.replace("_", "-")] = {"what": says.split("\n")[0], "full": kept.last(name.replace("_", "-"))}
    if json:
        return _common.print_json(found)
    table = Table("slug", "what", "full run", box=None, pad_edge=False)
    for slug, one in found.items():
        full = one["full"]
        table.add_row(slug, one["what"], "none kept" if full is None else f"{_verdict(full['holds'])} ({full['date']})")
    _common.console().print(table)


def _show(result: Any) -> None:
    from rich.table import Table

    from actscope.cli import _common
    from actscope.scores._parts.seeds import over_seeds

    console = _common.console()
    console.print(f"{result.slug}: {result.claim}\n")
    table = Table("figure", "mean", "95% interval", "by seed", box=None, pad_edge=False)
    for name, values in result.figures.items():
        mean, spread = over_seeds(values)
        between = "" if spread is None else f"{spread[0]:.4f} to {spread[1]:.4f}"
        table.add_row(name, f"{mean:.4f}", between, " ".join(f"{value:.3f}" for value in values))
    console.print(table)
    console.print(
        f"\nThe claim {_verdict(result.holds)}: ours {result.ours:.4f}, baseline {result.baseline:.4f}, control "
        f"{result.control:.4f} ({result.unit}), {len(result.seeds)} seeds, {result.seconds:.0f} s."
    )


def _verdict(holds: bool) -> str:
    return "holds" if holds else "does not hold"
