"""`actscope sites MODEL`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actscope.cli._common import console, print_json
from actscope.core.errors import Corrupt

if TYPE_CHECKING:
    from actscope.subjects.hf import HFSubject
    from actscope.subjects.verify import Verdict

__all__ = ["sites"]


def sites(model: str, *, verify: bool = False, seed: int = 0, json: bool = False) -> None:
    """List every place in a model that can be read and written: shape, the model's own module, the TransformerLens name.

    Heads are parts of a site: layers.3.z[5]; so are experts: layers.3.expert_out[7]. Any other module is a site too:
    "module:<path>:in" or ":out".

    Args:
        model: "pocket", "pocket-mini", a transformers folder, or a hub id.
        verify: show on the model itself that every site is what its name says, with a verdict for each: reads equal plain
            hooks and the model's own attention, sites follow from each other, writes arrive, padding moves nothing. Exit
            code 6 where one is not.
        seed: of the token ids that verification runs.
        json: print one JSON document instead of a table.
    """
    from actscope.subjects.load import load

    subject = load(model)
    rows = [
        {"site": str(site), "shape": list(info.shape), "module": info.module, "side": info.side, "lens": site.lens}
        for site, info in subject.sites.items()
    ]
    lacks = [{"site": kind, "why": why} for kind, why in subject.missing.items()]
    if verify:
        _verify(subject, seed, json)
        return
    if json:
        about = {"model": subject.name, "fingerprint": subject.fingerprint, "context": subject.context}
        print_json({**about, "sites": rows, "missing": lacks})
        return
    _show(subject.name, rows, lacks)


def _verify(subject: "HFSubject", seed: int, json: bool) -> None:
    """A verdict for every site; those of one kind that hold in all layers share a line. Raises Corrupt where one does not."""
    from actscope.subjects.verify import verify

    verdicts = verify(subject, seed=seed)
    wrong = [verdict for verdict in verdicts if not verdict.holds]
    if json:
        rows = [
            {"site": str(one.site), "holds": one.holds, "apart": one.apart, "checks": len(one.measures), "why": one.why}
            for one in verdicts
        ]
        print_json({"model": subject.name, "fingerprint": subject.fingerprint, "holds": not wrong, "sites": rows})
    else:
        _show_verdicts(subject.name, verdicts)
    if wrong:
        raise Corrupt(
            f"{len(wrong)} of {len(verdicts)} sites of {subject.name} are not shown to be right, {wrong[0].site} first: "
            f"{wrong[0].why}. Do not use them; other sites are not affected."
        )


def _show_verdicts(name: str, verdicts: "Sequence[Verdict]") -> None:
    from rich import box
    from rich.table import Table

    kinds: dict[tuple[str, str, bool], list[Verdict]] = {}
    for one in verdicts:
        kinds.setdefault((one.site.stack, one.site.kind, one.holds), []).append(one)
    good = sum(one.holds for one in verdicts)
    title = f"{name}: {good} of {len(verdicts)} sites are shown to be what their names say"
    table = Table(box=box.SIMPLE, title=title, title_justify="left")
    for column, right in (("site", False), ("layers", False), ("checks", True), ("largest distance", True), ("", False)):
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    for (stack, kind, holds), group in kinds.items():
        layers = [one.site.layer for one in group if one.site.layer is not None]
        span = "" if not layers else f"{layers[0]}" if len(layers) == 1 else f"{layers[0]} to {layers[-1]}"
        if len(layers) > 1 and len(layers) != layers[-1] - layers[0] + 1:
            span = ", ".join(map(str, layers))
        apart = max(one.apart for one in group)
        table.add_row(
            f"[bold]{stack + '.' if stack else ''}{kind}[/bold]", span, f"{sum(len(one.measures) for one in group):,}",
            f"{apart:.1e}" if apart else "0 (bitwise)",
            "[green]holds[/green]" if holds else f"[red]fails[/red]: {group[0].why}",
        )  # fmt: skip
    out = console()
    if not out.is_terminal:
        out.width = 160
    out.print(table)
    out.print(
        "Each site is read beside a plain hook or the model's own eager attention, follows from its neighbours, is written "
        "back and\nwritten anew, and is read in padded batches. Distances are relative; at most 1e-5 holds."
    )


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
    for why in dict.fromkeys(lack["why"] for lack in lacks):
        out.print(f"  no [bold]{', '.join(lack['site'] for lack in lacks if lack['why'] == why)}[/bold]: {why}")
    expert = next((row for row in rows if row["site"].endswith("expert_out")), None)
    parts = f", experts too ({expert['shape'][2]} of them): {expert['site']}\\[1]" if expert else ""
    out.print(f'\nb batch, t tokens. Heads are parts: layers.0.z\\[1]{parts}. Any other module: "module:<path>:in" or ":out".')
