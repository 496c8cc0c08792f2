"""actscope explain"""

from pathlib import Path

__all__ = ["explain"]


def explain(
    dictionary: Path,
    store: Path,
    *,
    model: str = "pocket",
    out: Path | None = None,
    method: str = "rules",
    latents: list[int] | None = None,
    contexts: int = 200,
    show: int = 30,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Say in words, without a language model, what the latents of a dictionary fire on, and how well that tells.

    Proposes on one part of the store's documents, selects on a second and reports on a third.

    actscope explain runs/sae acts --model pocket --out runs/explained

    Args:
        dictionary: the saved dictionary.
        store: the captured store; best of documents the dictionary was not trained on.
        model: the subject both were made with.
        out: folder to save the explanations in.
        method: how to explain; `actscope methods explainers` lists them.
        latents: which to explain; all when left out.
        contexts: active and inactive contexts a latent needs in each part.
        show: how many to print.
        seed: of the split of the documents and of all sampling.
        device: where the model stands, "cpu" or "cuda".
        dtype: of the model.
        json: print one JSON document and nothing else.
        dry_run: say what would be done and do nothing.
    """
    from actscope.cli import _common
    from actscope.core import artifact
    from actscope.core.methods import find
    from actscope.subjects.load import load

    explainer = find("explainers", method)
    opened, rows = _open(dictionary, store)
    if dry_run:
        count = len(latents) if latents else opened.n_latents
        return _common.console().print(f"Would explain {count} latents on {len(rows):,} tokens by {method}.")
    subject = load(model, device=device, dtype=dtype)
    progress = _common.plain_progress("explain")
    settings = {"latents": latents, "contexts": contexts, "seed": seed, "progress": progress}
    found = explainer(opened, subject, rows, **_taken(explainer, settings))  # type: ignore[operator]
    asked = len(latents) if latents else opened.n_latents
    if out is not None:
        artifact.save(found, out, method=method, dictionary=str(dictionary), store=str(store), asked=asked, seed=seed)
    if json:
        listed = [_as_json(one) for one in found]
        return _common.print_json({"asked": asked, "explained": len(found), "out": out and str(out), "features": listed})
    _print(found[:show], len(found), asked, out)


_MEANT = {
    "detection": "detection: balanced accuracy on documents that took no part in finding the explanation. same token: the same "
    "against silent places with the same token. control: under permuted labels.",
    "direct path": "direct path: correlation of what the weights say with what steering does to the next token. control: with "
    "what the weights of other latents say.",
}


def _open(dictionary: Path, store: Path) -> tuple:
    from actscope.core import artifact
    from actscope.core.dictionary import Dictionary
    from actscope.core.errors import BadInput
    from actscope.core.store import Store

    opened, rows = artifact.open(dictionary), artifact.open(store)
    if not isinstance(opened, Dictionary):
        raise BadInput(f"{dictionary} holds a {type(opened).__name__}; expected a dictionary, as `actscope fit` saves.")
    if not isinstance(rows, Store):
        raise BadInput(f"{store} holds a {type(rows).__name__}; expected a store, as `actscope capture` makes.")
    return opened, rows


def _taken(explainer: object, settings: dict[str, object]) -> dict[str, object]:
    """Those of the settings that this explainer has."""
    import inspect

    parameters = inspect.signature(explainer).parameters  # type: ignore[arg-type]
    return {name: value for name, value in settings.items() if name in parameters}


def _as_json(one) -> dict:
    found = {"latent": one.latent, "meaning": one.text}
    for score in one.scores:
        measured = {score.name: score.value, "interval": score.interval, f"{score.name}_shuffled": score.control}
        found |= {**measured, "parts": dict(score.parts)}
    return found | {name: one.evidence[name] for name in ("tried", "promotes", "suppresses") if name in one.evidence}


def _print(shown: list, explained: int, asked: int, out: Path | None) -> None:
    from rich.markup import escape
    from rich.table import Table

    from actscope.cli import _common

    table = Table(box=None, pad_edge=False)
    judged = shown[0].scores[0].name.replace("_", " ") if shown else "detection"
    says = "fires on" if judged == "detection" else "what it does"
    for heading in ("latent", says, judged, "same token", "control"):
        table.add_column(heading, justify="left" if heading == says else "right", no_wrap=heading != says)
    for one in shown:
        (score,) = one.scores
        hard = f"{score.parts['hard']:.2f}" if "hard" in score.parts else "-"
        table.add_row(
            str(one.latent),
            escape(one.text.removeprefix("fires on ")),
            f"{score.value:.2f}",
            hard,
            "-" if score.control is None else f"{score.control:.2f}",
        )
    console = _common.console()
    console.print(table)
    console.print(
        f"{explained} of {asked} latents explained, the others have too few contexts; {len(shown)} shown. "
        + _MEANT.get(judged, f"{judged}: see `{shown[0].method}`." if shown else ""),
        style="dim",
    )
    if out is not None:
        console.print(f"Saved in {out}. Next: actscope show {out}", soft_wrap=True, markup=False)
