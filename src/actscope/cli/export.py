"""actscope export"""

from pathlib import Path

__all__ = ["export"]


def export(
    format: str,
    dictionary: Path,
    *,
    out: Path,
    reads: str | None = None,
    writes: str | None = None,
    about: list[str] | None = None,
    json: bool = False,
) -> None:
    """Write a dictionary in another package's format.

    Args:
        format: saelens, sparsify or circuit_tracer; the others are read only.
        dictionary: folder of a dictionary made by `actscope fit`; for circuit_tracer a folder of several, one a layer, or a
            cross-layer transcoder.
        out: the file or folder to write.
        reads: the name to write for the site read, such as blocks.3.hook_resid_post, where its own has none there.
        writes: the name to write for the site written, likewise.
        about: statements to pass on, as NAME=VALUE, such as model_name=pocket or prepend_bos=false; may be given several times.
        json: print one JSON document and nothing else.
    """
    from actscope.cli import _common
    from actscope.cli._foreign import described, made
    from actscope.core import artifact
    from actscope.core.dictionary import Dictionary
    from actscope.core.errors import BadInput

    places = artifact.under(dictionary)
    opened = [artifact.open(place) for place in places]
    given = [one for one in opened if isinstance(one, Dictionary)]
    if len(given) != len(opened):
        raise BadInput(f"{dictionary} holds artifacts that are no dictionaries; expected one made by `actscope fit`.")
    passed = _passed(places[0]) if len(places) == 1 and format == "saelens" else {}
    passed |= dict(_statement(text) for text in about or [])
    made(format, reads=reads, writes=writes).write(given, out, about=passed or None)
    facts = {"out": str(out), "dictionaries": [described(one) for one in given], "about": passed}
    if json:
        return _common.print_json(facts)
    for one in facts["dictionaries"]:
        _common.console().print(f"{one['latents']:,} latents, {one['reads']} -> {one['writes']}")
    _common.console().print(f"Written to {out} as {format}.")


def _passed(place: Path) -> dict:
    """What the files it was imported from stated of the data, to be stated again."""
    from actscope.core import artifact

    stated = artifact.read_manifest(place).get("extra", {}).get("interop", {})
    kept = ("model_name", "prepend_bos", "context_size", "dataset_path", "exclude_special_tokens", "neuronpedia_id")
    return {name: stated[name] for name in kept if stated.get(name) is not None}


def _statement(text: str) -> tuple[str, object]:
    import json

    from actscope.core.errors import UsageError

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"--about {text}; expected NAME=VALUE, such as --about model_name=pocket.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
