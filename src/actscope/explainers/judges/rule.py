"""The judge that needs no language model: the explanation's rule is evaluated, and its answer is 1 or 0."""

from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.explanation import Explanation
from actscope.core.judge import by_rule
from actscope.core.text import TokenText

__all__ = ["rule"]


def rule(explanation: Explanation, text: TokenText, rows: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
    """1 where the explanation's rule holds, else 0. Raises BadInput for an explanation without one."""
    return by_rule(explanation, text, rows)
