"""Who guesses, from an explanation alone, where a latent fires."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.text import TokenText


@runtime_checkable
class Judge(Protocol):
    """Sees an explanation and text, never activations. Judging is what all scores of explanations have in common."""

    def __call__(self, explanation: Explanation, text: TokenText, rows: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
        """How likely the latent fires at each of these rows of `text`, each read with what stands before it in its
        sequence: 0 to 1. NaN where the judge gave no answer; scores leave those out and say how many."""
        ...


def by_rule(explanation: Explanation, text: TokenText, rows: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
    """The judge that needs no language model: 1 where the explanation's rule holds, else 0. Raises BadInput without one."""
    if explanation.rule is None:
        raise BadInput(
            f"The explanation of latent {explanation.latent} by {explanation.method} has no rule; expected one, as `rules` "
            "makes. Give judge= a judge that reads words (`actscope methods explainers.judges`)."
        )
    return explanation.rule.holds(text)[rows].float()
