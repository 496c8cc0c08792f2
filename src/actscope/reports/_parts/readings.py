"""What a figure of a diagnosis says, in a sentence made of its numbers."""

from collections.abc import Callable, Sequence
from typing import Any

from actscope.core.score import Score
from actscope.reports._parts import words


def reading(score: Score, measures: Sequence[Any]) -> str:
    """One or two sentences. measures: all that was measured, for what stands beside the figure."""
    every = {one.name: one for measure in measures for one in measure.scores}
    say = _SAID.get(score.name)
    return _against(score) if say is None else say(score, every)


def _massive(score: Score, every: dict[str, Score]) -> str:
    found = score.parts["massive"]
    dims, tokens = _listed(score, "dim "), _listed(score, "token ")
    many = (
        "None is massive in the paper's sense (over 100 and over 1000 times the median)."
        if found == 0
        else f"{words.figure(found)} a sequence are massive in the paper's sense (over 100 and over 1000 times the median)."
    )
    return (
        f"At {score.unit.rpartition(' ')[2]}, where it is largest, the top stands in dimension {dims}, at token {tokens}; at "
        f"the first token in {words.percent(score.parts['first'])} of sequences. {many}"
    )


def _listed(score: Score, prefix: str) -> str:
    """Names with their shares, the most frequent first."""
    found = [(name.removeprefix(prefix), share) for name, share in score.parts.items() if name.startswith(prefix)]
    found.sort(key=lambda pair: -pair[1])
    return ", ".join(f"{name} ({words.percent(share)})" for name, share in found[:2])


def _sinks(score: Score, every: dict[str, Score]) -> str:
    return (
        f"{words.percent(score.value)} of heads have a sink at the first token, {words.percent(score.control or 0.0)} at "
        f"another token drawn at random. The first token gets {words.percent(score.parts['first'])} of a head's attention on "
        f"average, the first four {words.percent(score.parts['four'])}."
    )


def _lazy(score: Score, every: dict[str, Score]) -> str:
    return (
        f"{words.percent(score.value)} of neurons are open at a token, where chance opens half; "
        f"{words.percent(score.parts['effective'])} hold 99% of the squares. {words.percent(1 - score.parts['nonzero'])} of "
        "entries are exactly 0."
    )


def _rank(score: Score, every: dict[str, Score]) -> str:
    return (
        f"After the last layer the rows use {words.figure(score.value)} {score.unit}; {words.figure(score.control or 0.0)} if "
        f"their coordinates varied independently. Weighted by variance: {words.figure(score.parts['of_eigenvalues'])}."
    )


def _alpha(score: Score, every: dict[str, Score]) -> str:
    return (
        f"After the last layer alpha is {words.figure(score.value)}; a straight line fits the logarithms with R2 "
        f"{words.share(score.parts['r2'])}."
    )


def _voids(score: Score, every: dict[str, Score]) -> str:
    cost = every.get("void_skipping")
    said = f"{words.percent(score.value)} of (token, layer) are voids."
    if cost is None:
        return said
    parts = cost.parts
    low, high = (parts.get(f"elsewhere - voids {end}", 0.0) for end in ("low", "high"))
    verdict = (
        "better to skip than chance"
        if low > 0
        else "worse to skip than chance: there these layers work without making the stream longer"
        if high < 0
        else "no better to skip than chance"
    )
    return (
        f"{said} Skipping them costs {words.figure(cost.value)} nats per token ({words.figure(parts['clean'])} to "
        f"{words.figure(parts['voids'])}), skipping as many layers of each token at random "
        f"{words.figure(cost.control or 0.0)}, and the same layers as often at other tokens "
        f"{words.figure(parts['elsewhere'] - parts['clean'])}. Against the last, the fairer, by "
        f"{words.between((low, high), words.figure)} nats: voids are {verdict}."
    )


def _influence(score: Score, every: dict[str, Score]) -> str:
    near, far = every.get("influence:lag 1"), every.get("influence:lag 16")
    said = (
        f"Over the next 8 tokens a replaced one moves each prediction by {words.figure(score.value)} nats; moving its "
        f"embedding as far at random, by {words.figure(score.control or 0.0)}."
    )
    if near is not None and far is not None:
        said += f" From lag 1 to 16 and more it falls from {words.figure(near.value)} to {words.figure(far.value)}."
    return said


def _dynamics(score: Score, every: dict[str, Score]) -> str:
    lines = [one.parts["line"] for name, one in every.items() if name.startswith("massive_dynamics:")]
    return (
        f"The curve explains {words.share(score.value)} of the ratio's variance over {score.n} checkpoints, averaged over "
        f"layers; in random orders {words.share(score.control or 0.0)}; a straight line in log step, of two parameters, "
        f"{words.share(sum(lines) / len(lines))}."
    )


def _classes(score: Score, every: dict[str, Score]) -> str:
    best = min((one for name, one in every.items() if name.startswith("word_classes:")), key=lambda one: one.value)
    return (
        f"Of {score.parts['classes']:g} classes, {words.count(score.n)} vectors. After the last layer {_against(score)} Most "
        f"apart at {best.name.partition(':')[2]}: {words.figure(best.value)}."
    )


def _against(score: Score) -> str:
    if score.control is None:
        return ""
    said = f"{words.figure(score.value)} against {words.figure(score.control)} of the control"
    if score.interval is None:
        return said + "."
    low, high = score.interval
    apart = "the interval excludes it" if not low <= score.control <= high else "the interval holds it, so nothing is shown"
    return f"{said}; {apart}."


_SAID: dict[str, Callable[[Score, dict[str, Score]], str]] = {
    "massive_activations": _massive, "attention_sinks": _sinks, "activation_sparsity": _lazy, "rankme": _rank, "alpha": _alpha,
    "word_classes": _classes, "void_layers": _voids, "influence": _influence, "massive_dynamics": _dynamics,
}  # fmt: skip
