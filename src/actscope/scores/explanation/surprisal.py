"""Surprisal: does an explanation help a language model to read the contexts in which the latent fires? Paulo, Mallen, Juang
and Belrose 2024, "Automatically Interpreting Millions of Features in Large Language Models" (arXiv:2410.13928), surprisal.

    1. Draw contexts x in which the latent fires and contexts in which it is silent.
    2. A language model reads each after the explanation z, and after words that explain nothing, z0. The information of z in
       x is  log p(x | z) - log p(x | z0), here in nats a token.
    3. The score is the area under the ROC curve of the information, active against silent.

The model must be able to use a description. The subject itself is taken where none is given, and a small one cannot: judge the
score by its controls first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.agreement import auroc
from actscope.scores._parts.judging import Cases, judged, reading_of
from actscope.scores._parts.reading import Reading
from actscope.scores._parts.windows import before

__all__ = ["surprisal"]

_BATCH = 32  # texts read at once


def surprisal(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    reader: Subject | None = None,
    prompt: str = "What these texts have in common: {}.\n\n",
    nothing: str = "nothing in particular",
    documents: Iterable[int] | None = None,
    reading: Reading | None = None,
    contexts: int = 50,
    most: int = 100,
    above: float = 0.0,
    window: int = 32,
    others: int = 1,
    permutations: int = 20,
    draws: int = 500,
    seed: int = 0,
) -> Mapping[int, Score]:
    """Area under the ROC curve of what the explanation tells a language model about the text (arXiv:2410.13928).

    reader: the language model (None: the subject). prompt: what stands before a context, {} for the explanation or, in its
    place, `nothing`. A context is the text of up to `window` tokens that end with the one in question. Chance is 0.5.
    documents, reading, contexts, most, above, others, permutations, draws, control, interval and parts: as for detection;
    every row asked about is read once, and once more after `nothing`. Returns latent -> Score. Raises BadInput for a prompt
    without {}, or where prompt and context are longer than what the reader takes.
    """
    if "{}" not in prompt:
        raise BadInput(f"prompt={prompt!r} given; expected {{}} in it, where the explanation is to stand.")
    reading = reading_of(dictionary, subject, store, documents, reading)
    drawn = [reading.contexts(one.latent, most=most, above=above, seed=seed) for one in explanations]
    return judged(
        "surprisal", auroc, explanations, [Cases.of(one.active, one.random) for one in drawn], reading,
        _Reader(subject if reader is None else reader, prompt, nothing, window), unit="area under ROC", contexts=contexts,
        others=others, permutations=permutations, draws=draws, seed=seed,
    )  # fmt: skip


@dataclass(frozen=True)
class _Reader:
    """Step 2 as a judge: the logistic function of the information, which keeps its order."""

    subject: Subject
    prompt: str
    nothing: str
    window: int
    plain: dict[str, float] = field(default_factory=dict)  # text -> nats a token after `nothing`

    def __call__(self, explanation: Explanation, text: TokenText, rows: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
        contexts = before(rows, text, self.window)
        distinct = sorted(set(contexts))
        new = [one for one in distinct if one not in self.plain]
        self.plain.update(zip(new, self._read(self.nothing, new), strict=True))
        after = dict(zip(distinct, self._read(explanation.text, distinct), strict=True))
        return torch.sigmoid(torch.tensor([after[one] - self.plain[one] for one in contexts]))

    @torch.no_grad()
    def _read(self, words: str, texts: Sequence[str]) -> list[float]:
        """Log-probability of each text after the prompt, in nats a token."""
        start, found = self.prompt.format(words), []
        for first in range(0, len(texts), _BATCH):
            inputs = self.subject.prepare([start + text for text in texts[first : first + _BATCH]])
            assert inputs.ids is not None and inputs.offsets is not None
            if inputs.ids.shape[1] > self.subject.context:
                raise BadInput(
                    f"Explanation and context are {inputs.ids.shape[1]} tokens long and {self.subject.name} takes "
                    f"{self.subject.context}; give a smaller window=, a shorter explanation or another reader=."
                )
            logits = self.subject.run(inputs).logits
            assert logits is not None, "a run without reads computes logits"
            mine = (inputs.offsets[..., 0] >= len(start)) & (inputs.offsets[..., 1] > inputs.offsets[..., 0])
            chance = logits[:, :-1].float().log_softmax(-1).gather(2, inputs.ids[:, 1:, None].to(logits.device))[..., 0].cpu()
            mine = mine[:, 1:].cpu()
            found += ((chance * mine).sum(1) / mine.sum(1).clamp_min(1)).tolist()
        return found
