"""EigenScore. Chen et al. 2024, "INSIDE: LLMs' Internal States Retain the Power of Hallucination Detection" (arXiv:2402.03744);
its efficient form: Mohammadzadeh et al. 2024, "Hallucination Detox: Sensitivity Dropout" (arXiv:2410.15460).

1. Draw k answers to a prompt. z_i: the middle layer's vector at the last token of answer i.
2. Centre each z_i over its own coordinates: C = Z J Z^T, [k k], J = I - 11^T / d.
3. EigenScore = mean log eigenvalue of C + a I. Low: the answers mean the same. High: the model is making them up.
4. The efficient form, for many answers, estimates that mean from the density of states instead of all eigenvalues
   (`scores/_parts/logdet.py`), at the cost of some products with Z.

Letters: k answers, d width.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.score import Score
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.scores._parts.cost import Cost
from actscope.scores._parts.logdet import mean_log_eigenvalue, mean_log_eigenvalue_estimated
from actscope.scores._parts.passages import Passages, layers, mean_interval
from actscope.subjects.engine import generate

__all__ = ["eigenscore"]

COST = Cost("samples", a_document=10 * (24 + 16), documents=40, most=True)


def eigenscore(
    subject: Subject,
    passages: Passages,
    *,
    prompt: int = 24,
    tokens: int = 16,
    answers: int = 10,
    documents: int = 40,
    temperature: float = 0.5,
    top_p: float = 0.99,
    top_k: int | None = 5,
    alpha: float = 1e-3,
    efficient: bool = False,
    seed: int = 0,
) -> list[Score]:
    """How far a model's answers to one prompt are apart in its middle layer: the mean EigenScore over prompts (Chen et al.
    2024, arXiv:2402.03744, whose settings are the defaults but for the lengths).

    prompt: the first tokens of a document, special ones included; documents: the first of those that are longer. tokens: drawn
    an answer, at most. efficient: estimated from the density of states. Control: the same of as many answers to different
    prompts, which have nothing to agree on. Interval: bootstrap over documents. parts: low, high (interval of value - control).
    Raises BadInput where no document is longer than the prompt, and what `generate` does.
    """
    sites = layers(subject, "resid_post")
    middle = sites[(len(sites) - 1) // 2]
    rows = [ids[mask] for batch in passages for ids, mask in zip(batch.ids, batch.mask, strict=True)]
    prompts = [row[:prompt].tolist() for row in rows if len(row) > prompt][:documents]
    if len(prompts) < 2:
        raise BadInput(
            f"{len(prompts)} sequences of {passages.name} are longer than a prompt of {prompt} tokens; give 2 or more."
        )
    said = [
        _answers(subject, one, middle, answers, seed + number, tokens=tokens, temperature=temperature, top_p=top_p, top_k=top_k)
        for number, one in enumerate(prompts)
    ]
    z = torch.stack(said)
    measure = mean_log_eigenvalue_estimated if efficient else mean_log_eigenvalue
    own = torch.tensor([measure(one, alpha) for one in z], dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    mixed = [z[torch.randperm(len(z), generator=draw)[:answers], number % answers] for number in range(len(z))]
    others = torch.tensor([measure(one, alpha) for one in mixed], dtype=torch.float64)
    ones = torch.ones(len(own), dtype=torch.float64)
    value, spread = mean_interval(own, ones, seed=seed)
    _, gap = mean_interval(own - others, ones, seed=seed)
    parts = {} if gap is None else {"low": gap[0], "high": gap[1]}
    definition = "efficient_eigenscore@1" if efficient else "eigenscore@1"
    return [
        Score("eigenscore", definition, value, "mean log eigenvalue", "neither", len(own), spread, float(others.mean()), parts)
    ]


def _answers(subject: Subject, prompt: list[int], site: Site, k: int, seed: int, **sampling: object) -> Float[Tensor, "k d"]:
    """The site's vector at the last token of each of k answers."""
    found = generate(
        subject, [prompt] * k, seed=seed, read=[site], read_where="generated", **sampling  # type: ignore[arg-type]
    )  # fmt: skip
    return torch.stack([acts[site][-1].float().cpu() for acts in found.acts])
