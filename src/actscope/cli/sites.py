"""`actscope sites MODEL`."""

from typing import Any

from actscope.cli._common import console, print_json

__all__ = ["sites"]


def sites(model: str, *, json: bool = False) -> None:
    """List every place in a model that can be read and written: shape, the model's own module, the TransformerLens name.

    Heads are parts of a site: layers.3.z[5]; so are experts: layers.3.expert_out[7]. Any other module is a site too:
    "module:<path>:in" or ":out".

    Parameters
    ----------
    model
        "pocket", "pocket-mini", a transformers folder, or a hub id.
    json
        Print one JSON document instead of a table.
    """
    from actscope.subjects.load import load

    subject = load(model)
    rows = [
        {"site": str(site), "shape": list(info.shape), "module": info.module, "side": info.side, "lens": site.lens}
        for site, info in subject.sites.items()
    ]
    lacks = [{"site": kind, "why": why} for kind, why in subject.missing.items()]
    if json:
        about = {"model": subject.name, "fingerprint": subject.fingerprint, "context": subject.context}
        print_json({**about, "sites": rows, "missing": lacks})
        return
    _show(subject.name, rows, lacks)


def _show(name: str, rows: list[dict[str, Any]], lacks: list[dict[str, str]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, title=f"{name}: {len(rows)} sites, in the order they are computed", title_justify="left")
    for title in ("site", "shape", "module of the model", "", "TransformerLens"):
        table.add_column(title, overflow="fold", no_wrap=title in ("site", "shape", ""))
    layer = ""
    for row in rows:
        block = row["site"].rpartition(".")[0]
        if layer and block != layer:
            table.add_section()
        layer = block
        shape = " ".join(map(str, row["shape"]))
        table.add_row(f"[bold]{row['site']}[/bold]", f"\\[{shape}]", row["module"], row["side"], row["lens"] or "-")
    out = console()
    if not out.is_terminal:
        out.width = 160  # one line a site in files and pipes
    out.print(table)
    for lack in lacks:
        out.print(f"  no [bold]{lack['site']}[/bold]: {lack['why']}")
    expert = next((row for row in rows if row["site"].endswith("expert_out")), None)
    parts = f", experts too ({expert['shape'][2]} of them): {expert['site']}\\[1]" if expert else ""
    out.print(f'\nb batch, t tokens. Heads are parts: layers.0.z\\[1]{parts}. Any other module: "module:<path>:in" or ":out".')
