"""actscope compare"""

from pathlib import Path

__all__ = ["compare"]


def compare(
    *methods: str,
    model: str = "pocket",
    site: str = "layers.1.resid_post",
    write: str | None = None,
    text: Path | None = None,
    tokens: int = 200_000,
    held: int = 60_000,
    rows: int | None = None,
    latents: int = 1024,
    k: tuple[int, ...] = (16,),
    seeds: int = 3,
    rates: tuple[float, ...] = (0.5, 1.0, 2.0),
    out: Path = Path("runs/compare"),
    batch: int = 2048,
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Train dictionary methods side by side, each at its own best learning rate, and judge them on the same numbers.

    Writes comparison.json and comparison.html into OUT: sparsity against reconstruction, the model's loss recovered, truth
    recovered where it is known, dead latents and time, with intervals over seeds. Killed, the same command goes on.

    Args:
        methods: names of `actscope methods dictionaries`, such as topk batch_topk jumprelu pca.
        model: a built-in model, a folder as transformers saves it, or a hub id.
        site: the site to read.
        write: the site to predict, for transcoders; each method is then asked to write it.
        text: a file or folder to read instead of the built-in text.
        tokens: rows captured to fit on; a tenth of them choose the learning rates.
        held: rows of other documents to judge on.
        rows: rows each method sees, repeats counted; three passes when left out.
        latents: of the methods that take a number.
        k: active latents, of the methods that take that; several give a line of points.
        seeds: of the start of each method and of the order of the rows.
        rates: multiples of each method's own learning rate that are tried.
        out: the folder for what is captured, fitted and found.
        batch: rows a step.
        json: print one JSON document and nothing else.
        dry_run: say what would be done, and do nothing.
    """
    from actscope.cli import _common, _comparison

    wanted = _comparison.Wanted(
        methods, model, site, write, text, tokens, held, rows, latents, k, seeds, rates, Path(out), batch
    )
    if dry_run:
        planned = _comparison.plan(wanted)
        return _common.print_json(planned) if json else _common.console().print("\n".join(planned["would fit"]))
    found = _comparison.run(wanted, _common.plain_progress)
    if json:
        return _common.print_json(found.to_json())
    from actscope.reports.comparison import table

    console = _common.console()
    console.print(table(found))
    console.print(f"\nThe picture: {wanted.out / 'comparison.html'}")
