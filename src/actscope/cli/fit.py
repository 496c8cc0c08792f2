"""actscope fit"""

import functools
from typing import Any

__all__ = ["fit"]


def fit(
    method: str,
    store: str,
    *,
    out: str,
    read: str | None = None,
    write: str | None = None,
    latents: int | None = None,
    rows: int | None = None,
    batch: int = 4096,
    lr: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    every: int | None = None,
    latents_over: int = 1,
    sweep: tuple[str, ...] = (),
    json: bool = False,
    dry_run: bool = False,
    **settings: str,
) -> None:
    """Fit a dictionary to a store. Killed or stopped, the same command goes on from its last checkpoint.

    Any setting of the method is a flag too: `actscope fit topk acts/ --latents 4096 --k 32 --out sae/`.

    Args:
        method: one of `actscope methods dictionaries`, such as topk, transcoder or pca.
        store: a folder that `actscope capture` made.
        out: the folder for checkpoints and the result.
        read: the site to read; may be left out when the store has one.
        write: the site to predict, for methods that write another one, such as transcoder.
        latents: how many; may be left out for pca and identity.
        rows: rows to train on in all, repeats counted; one pass over the store when left out.
        batch: rows a step.
        lr: the learning rate at its highest; one that suits the method and the width when left out.
        seed: of the data's order and of the method's own start.
        device: "cpu", "cuda"...
        dtype: of parameters and rows.
        every: steps between checkpoints; about every 30 s when left out.
        latents_over: under `torchrun -m actscope fit ...`, processes that share out the latents; else they share out rows.
        sweep: values to try of a setting, of latents or of seed, such as k=16,32,64; given again, every combination. All are
            fitted in one pass and saved under OUT by name.
        json: print one JSON document and nothing else.
        dry_run: say what would be done, and do nothing.
        settings: the method's own settings.
    """
    from actscope.training.plan import Plan

    source = _store(store)
    plan = Plan(rows=rows, batch=batch, lr=lr, seed=seed, device=device, dtype=dtype, every=every)
    says = {"method": method, "store": store, "out": out}
    make = functools.partial(_dictionary, method, source, read, write, latents, seed)
    if sweep:
        return _do_sweep(
            _members(sweep, latents_over, lambda own: make({**settings, **own})), source, plan, says, json, dry_run
        )
    _do(make(settings), source, plan, latents_over, says, json, dry_run)


def _store(folder: str):
    from actscope.core import artifact
    from actscope.core.errors import BadInput

    if artifact.read_manifest(folder)["kind"] != "store":
        raise BadInput(f"{folder} is a saved artifact but no store; expected a folder that `actscope capture` made.")
    return artifact.open(folder)


def _dictionary(method: str, source, read: str | None, write: str | None, latents: int | None, seed: int, flags: dict):
    import inspect

    from actscope.cli import _flags
    from actscope.core import methods

    kind: Any = methods.find("dictionaries", method)
    own = {name: text for name, text in flags.items() if name not in ("latents", "n_latents")}
    given = _flags.settings(kind, method, own, _NOT_FLAGS)
    if "seed" in inspect.signature(kind).parameters:
        given.setdefault("seed", seed)
    if latents is not None:
        given["n_latents"] = latents
    elif "latents" in flags or "n_latents" in flags:
        given["n_latents"] = _flags.value("--latents", flags.get("latents", flags.get("n_latents", "")), int)
    elif _required(kind, "n_latents"):
        raise _usage(f"{method} needs --latents, such as --latents 2048.")
    return kind(reads=_ports(source, read, "--read"), writes=_ports(source, write, "--write") if write else None, **given)


def _members(sweep: tuple[str, ...], latents_over: int, make) -> dict:
    """Name -> dictionary, for every combination of the values given."""
    from actscope.training.sweep import grid

    if latents_over > 1:
        raise _usage("--latents-over splits one dictionary; with --sweep leave it out, or fit the members one by one.")
    axes: dict[str, list[str]] = {}
    for axis in sweep:
        name, sign, values = axis.partition("=")
        if not sign or not values or name in axes:
            raise _usage(f"--sweep {axis} cannot be; expected a setting and its values once, such as --sweep k=16,32,64.")
        axes[name] = values.split(",")
    return {name: make(own) for name, own in grid(**axes).items()}


def _do_sweep(members: dict, source, plan, says: dict, json: bool, dry_run: bool) -> None:
    """Fit them all, unless it is a dry run, and say what each came to on the rows it was fitted on."""
    import time

    from actscope.cli import _common
    from actscope.training.sweep import sweep

    started = time.monotonic()
    says |= {"rows": plan.rows or len(source), "members": {name: {"latents": one.n_latents} for name, one in members.items()}}
    if not dry_run:
        sweep(members, source, plan, out=says["out"], progress=_common.plain_progress(f"fit {len(members)} {says['method']}"))
        for name, one in members.items():
            says["members"][name] |= _measured(one.to("cpu"), source)
        says["seconds"] = round(time.monotonic() - started, 2)
    if json:
        return _common.print_json(says)
    from rich.table import Table

    table = Table("member", "latents", "unexplained", "active", box=None)
    for name, found in says["members"].items():
        table.add_row(name, f"{found['latents']:,}", *(f"{found[key]:.4g}" for key in ("fvu", "l0") if key in found))
    _common.console().print(table)
    _common.console().print(
        f"{'Would fit' if dry_run else 'Fitted'} {len(members)} on {says['rows']:,} rows into {says['out']}."
    )


def _measured(dictionary, source) -> dict[str, float]:
    """What it leaves unexplained and how many latents it uses, on the store's first rows."""
    from actscope.scores.dictionary.fvu import fvu
    from actscope.scores.dictionary.l0 import l0

    some = sorted(set(source.text[1][:20_000, 0].tolist()))
    return {"fvu": fvu(dictionary, source, documents=some).value, "l0": l0(dictionary, source, documents=some).value}


def _do(dictionary, source, plan, latents_over: int, says: dict, json: bool, dry_run: bool) -> None:
    """Fit, unless it is a dry run, and say what was done."""
    import time

    from actscope.cli import _common
    from actscope.core import artifact
    from actscope.training.fit import fit as train

    started = time.monotonic()
    says |= {"rows": plan.rows or len(source), "latents": dictionary.n_latents, "settings": dictionary.settings}
    if not dry_run:
        progress = _common.plain_progress(f"fit {says['method']}")
        train(dictionary, source, plan, out=says["out"], progress=progress, latents_over=latents_over)
        manifest = artifact.read_manifest(says["out"])
        losses = manifest["extra"]["fit"].get("losses", [])
        says |= {"content": manifest["content"], "last": losses[-1] if losses else {}}
        says["seconds"] = round(time.monotonic() - started, 2)
    if json:
        return _common.print_json(says)
    last = ", ".join(f"{name} {value:.4g}" for name, value in says.get("last", {}).items())
    what = f"{says['method']} with {dictionary.n_latents:,} latents on {says['rows']:,} rows of {says['store']}"
    done = f"Would fit {what} into {says['out']}." if dry_run else f"Fitted {what}: {last or 'solved'}. Saved in {says['out']}."
    _common.console().print(done)


def _ports(source, name: str | None, flag: str) -> dict:
    """The one port meant, with its width."""
    from actscope.core.errors import UnknownSite, nearest
    from actscope.core.site import Port

    if name is None:
        if len(source.ports) == 1:
            return dict(source.ports)
        raise _usage(f"The store has {len(source.ports)} sites; choose one with {flag}: {', '.join(map(str, source.ports))}.")
    port = Port.parse(name)
    if port not in source.ports:
        listed = list(map(str, source.ports))
        raise UnknownSite(f"The store has no site {name}{nearest(name, listed)} It has: {', '.join(listed)}.")
    return {port: source.ports[port]}


def _required(kind, name: str) -> bool:
    import inspect

    return inspect.signature(kind).parameters[name].default is inspect.Parameter.empty


def _usage(message: str) -> Exception:
    from actscope.core.errors import UsageError

    return UsageError(message)


_NOT_FLAGS = ("reads", "writes", "n_latents")
