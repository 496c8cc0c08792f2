"""actscope methods"""

__all__ = ["methods"]


def methods(room: str | None = None, *, json: bool = False) -> None:
    """List the methods of every room, or of one, with the first line of what each is.

    Args:
        room: "dictionaries", "explainers", "scores.dictionary"...; all of them when left out.
        json: print one JSON document and nothing else.
    """
    import inspect

    from rich.table import Table

    from actscope.cli import _common
    from actscope.core.methods import find, names

    known = [
        "dictionaries",
        "compression",
        "adaptation",
        "scores.dictionary",
        "scores.explanation",
        "scores.subject",
        "explainers",
        "explainers.judges",
        "explainers.sources",
        "interop",
        "tasks",
        "reproductions",
    ]
    rooms = [room] if room else known
    found = {name: {method: _first_line(find(name, method), inspect.getdoc) for method in names(name)} for name in rooms}
    if json:
        return _common.print_json(found)
    table = Table(box=None, pad_edge=False)
    for heading in ("room", "method", "what it is"):
        table.add_column(heading)
    for name, listed in found.items():
        for method, line in listed.items():
            table.add_row(name, method, line)
    _common.console().print(table)


def _first_line(thing: object, getdoc) -> str:
    return (getdoc(thing) or "").strip().split("\n")[0]
