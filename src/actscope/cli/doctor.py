"""actscope doctor"""

__all__ = ["doctor"]


def doctor(*, json: bool = False) -> None:
    """Show what this machine offers: versions, processor, accelerator, memory, disk, built-in models.

    Args:
        json: print one JSON document and nothing else.
    """
    import os
    import platform
    import shutil
    from importlib.metadata import version
    from importlib.resources import files

    import torch
    from rich.table import Table

    from actscope.cli import _common

    free = shutil.disk_usage(".").free / 2**30
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    weights = files("actscope").joinpath("organisms", "weights")
    built_in = sorted(path.name for path in weights.iterdir() if path.is_dir()) if weights.is_dir() else []
    accelerator = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none; everything runs on the CPU"
    facts = {
        "python": platform.python_version(),
        **{name: version(name) for name in ("actscope", "torch", "transformers", "safetensors")},
        "cores": f"{os.cpu_count()}, {torch.get_num_threads()} threads used",
        "memory": f"{memory:.0f} GiB",
        "accelerator": accelerator,
        "free disk here": f"{free:.0f} GiB" + ("" if free > 2 else "; less than 2 GiB: free some before a capture"),
        "hub": "offline (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") == "1" else "reached only by hub id",
        "built-in models": ", ".join(built_in) or "none; `actscope organism train pocket` makes one",
    }
    if json:
        return _common.print_json(facts)
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in facts.items():
        table.add_row(name, str(value))
    _common.console().print(table)
