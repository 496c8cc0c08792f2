"""actscope generate"""

from typing import Any

from actscope.core.errors import Interrupted

__all__ = ["generate"]


def generate(
    model: str,
    *,
    prompt: list[str],
    tokens: int = 64,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    samples: int = 1,
    stop: list[str] | None = None,
    ends: bool = True,
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    json: bool = False,
) -> None:
    """Let a model go on from one prompt or several: greedily, or drawn at a temperature.

    A prompt's continuation depends on the prompt and the seed alone, not on the other prompts.

    Args:
        model: pocket, a transformers folder or a hub id.
        prompt: the text to go on from; may be given several times. "" begins where texts begin.
        tokens: how many to generate at most.
        temperature: 0 takes the likeliest token; above, one is drawn from softmax(logits / temperature).
        top_k: draw from so many of the likeliest tokens only.
        top_p: draw from the fewest tokens that hold this much of the probability.
        samples: continuations of each prompt; needs a temperature.
        stop: a text that ends a continuation and is cut off; may be given several times.
        ends: stop at the model's own end token.
        seed: of what is drawn.
        device: "cpu", "cuda"...
        dtype: of the model.
        json: print one JSON document and nothing else.
    """
    from actscope.cli import _common
    from actscope.core.errors import UsageError
    from actscope.subjects.engine import Stream
    from actscope.subjects.load import load

    if samples < 1:
        raise UsageError(f"--samples {samples}; expected 1 or more.")
    if samples > 1 and temperature == 0:
        raise UsageError(f"--samples {samples} at temperature 0 would all be the same; give --temperature, such as 0.8.")
    subject = load(model, device=device, dtype=dtype)
    rows = [text for text in prompt for _ in range(samples)]
    coming = Stream(
        subject, rows, tokens=tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=stop or (), ends=ends
    )
    out = _common.console()
    if len(rows) == 1 and out.is_terminal and not json:
        return _typed(out, coming, rows[0])
    show = _common.plain_progress("generate")
    for number, _ in enumerate(coming):
        show(number, len(rows) * tokens, "tokens")
    return _common.print_json(_facts(subject, coming, rows)) if json else _listed(out, coming, rows)


def _facts(subject: Any, coming: Any, prompts: list[str]) -> dict[str, Any]:
    found = coming.finish()
    rows = [
        {
            "prompt": prompts[index], "text": found.text[index], "stopped": found.stopped[index],
            "ids": found.ids[index].tolist(), "pieces": subject.pieces(found.ids[index]),
            "logprobs": [round(value, 6) for value in found.logprobs[index].tolist()],
        }
        for index in range(len(prompts))
    ]  # fmt: skip
    return {"model": subject.name, "fingerprint": subject.fingerprint, "rows": rows}


def _typed(out: Any, coming: Any, prompt: str) -> None:
    """One continuation, as it comes."""
    from rich.text import Text

    out.print(Text(prompt, style="dim"), end="", soft_wrap=True)
    try:
        for token in coming:
            out.print(Text(token.text), end="", soft_wrap=True)
            out.file.flush()
    except Interrupted:
        out.print()
        raise
    found = coming.finish()
    out.print(f"\n\n{_why(found, 0)}", style="dim", markup=False)


def _listed(out: Any, coming: Any, prompts: list[str]) -> None:
    """Continuations below each other, each after its prompt."""
    from rich.text import Text

    found = coming.finish()
    for index, prompt in enumerate(prompts):
        if len(prompts) > 1:
            out.print(f"[bold]{index + 1}[/bold]  {_why(found, index)}", style="dim", soft_wrap=True)
        out.print(Text.assemble((prompt, "dim"), (found.text[index], "")), soft_wrap=True)
        if index + 1 < len(prompts):
            out.print()


def _why(found: Any, index: int) -> str:
    """How long a continuation is, how likely, and why it ended."""
    n = len(found.ids[index])
    why = {
        "end": "the model ended it",
        "stop": "a stop text came",
        "tokens": "as many as asked for",
        "context": "the model takes no more",
    }[found.stopped[index]]
    mean = float(found.logprobs[index].mean())
    return f"{n:,} token{'s' * (n > 1)}, {why}, {mean:.2f} nats a token"
