"""actscope demo"""

from pathlib import Path

__all__ = ["demo"]


def demo(
    *,
    text: Path | None = None,
    model: str = "pocket",
    site: str | None = None,
    out: Path = Path("runs/demo"),
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    json: bool = False,
    dry_run: bool = False,
) -> None:
    """Find features in a model, say what they mean, and show by intervening that they do something.

    Reads activations, fits a dictionary, looks for a rule that says where each latent fires, judges the rules on other
    documents, then ablates each latent and steers with it in the running model beside controls. Everything is computed
    afresh. Writes report.json and report.html into the folder OUT.

    Args:
        text: a file (.txt .md .py .jsonl .jsonl.gz .parquet), a folder or hf:org/name to read instead of the built-in text.
        model: a built-in model, a folder as transformers saves it, or a hub id.
        site: where to read, such as layers.1.resid_post; `actscope sites MODEL` lists them. Left out: after the middle layer.
        out: the folder for the report.
        seed: the same seed gives the same numbers.
        device: cpu, cuda, cuda:1, mps.
        dtype: of the model: float32, bfloat16 or float16.
        json: print the report as one JSON document and nothing else on stdout.
        dry_run: say what would be done, and do nothing.
    """
    from rich.console import Console

    from actscope.cli import _common, _job
    from actscope.reports.terminal import Stages, result

    job = _job.Job(model=model, text=text, site=site, out=out, seed=seed, device=device, dtype=dtype)
    if dry_run:
        plan = _job.plan(job)
        return _common.print_json(plan) if json else _common.console().print("\n".join(f"{k}: {v}" for k, v in plan.items()))
    shown = Console(stderr=True, highlight=False) if json else _common.console()
    with Stages(shown, _job.STAGES) as stages:
        report = _job.run(job, stages)
    if json:
        return _common.print_json(report.to_json())
    shown.print(result(report, rows=12, then=_job.next_steps(job)))
