"""The judge by embedding: contexts like the explanation's words are where the latent fires. The similarity of Paulo et al.
2024 (arXiv:2410.13928), embedding scoring, as a judge for any score.

    1. Encode the explanation's words, and the text of up to `window` tokens that end with the row.
    2. The answer is (1 + cosine) / 2.

Its order means something, its size does not: 0.5 is where the cosine is 0, not where the latent is as likely to fire as not.
Scores by rank (embedding, responsiveness, purity) take it as it is; a threshold of 0.5 (detection, fuzzing) is arbitrary.
"""

from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.similarity import Encoder, similarity

__all__ = ["Embedding"]


class Embedding:
    """A judge that answers by the similarity of words."""

    def __init__(self, encoder: Encoder | Subject, *, text: TokenText | None = None, window: int = 16):
        """encoder: texts -> vectors, or a sentence encoder as `act.load` gives it; of a subject that reads forward only, token
        embeddings are compared, the last ones of a context with the most weight, and the nearest two are the answer. text:
        where its tokens are counted, so that common ones weigh less. window: tokens of a context. Raises BadInput for a
        window below 1."""
        if window < 1:
            raise BadInput(f"window={window} given; expected at least 1 token.")
        self._similarity = similarity(encoder, text, window)

    def __call__(self, explanation: Explanation, text: TokenText, rows: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
        """(1 + cosine) / 2 at each row."""
        return self._similarity(explanation, text, rows)
