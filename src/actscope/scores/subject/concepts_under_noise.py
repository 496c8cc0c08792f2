"""More concepts in noise. Suresh et al. 2025, "From Noise to Narrative: Tracing the Origins of Hallucinations in Transformers"
(arXiv:2509.06938): as inputs lose their structure, more of a dictionary's latents become active, most in middle layers.

1. Six levels of noise: the text as it is; its 8-grams, 4-grams, 2-grams and single tokens in a random order; and tokens drawn
   at random from the text's own.
2. At each level run it, encode the rows at the dictionary's site, and count the latents that are active somewhere in each
   sequence.
3. rho = Spearman's correlation of level and count over the six levels of a sequence.
4. Control: as many random directions, each active above one threshold at which they are active as often as the dictionary's
   latents on the text as it is.

Letters: b batch, t tokens, n rows, m latents.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, WrongSubject
from actscope.core.score import Score
from actscope.core.subject import Subject
from actscope.scores._parts.bootstrap import by_document
from actscope.scores._parts.cost import Cost
from actscope.scores._parts.noise import LEVELS, noisy
from actscope.scores._parts.passages import Passage, Passages, mean_interval, read

__all__ = ["concepts_under_noise"]

COST = Cost("pairs", forward=6)


@torch.no_grad()
def concepts_under_noise(subject: Subject, passages: Passages, *, dictionary: Dictionary, seed: int = 0) -> list[Score]:
    """Spearman's correlation of the noise in a sequence and the number of latents active in it, then a Score a level:
    "concepts:level 0" to 5, the mean number of distinct latents of a sequence (Suresh et al. 2025, arXiv:2509.06938).

    Control: random directions, as often active on the text as it is. Interval: bootstrap over documents. parts: active (the
    same of the latents active at a token, on average), control_active. Sequences are of fixed length under noise, so that no
    level has more tokens.
    Raises BadInput for a dictionary of several models, WrongSubject for one of another model, NotFinite.
    """
    if dictionary.subject and dictionary.subject != subject.fingerprint:
        raise WrongSubject(
            f"The dictionary was trained on a subject with fingerprint {dictionary.subject[:12]}; {subject.name} has "
            f"{subject.fingerprint[:12]}. Give the subject it was trained on."
        )
    if any(port.subject for port in dictionary.reads):
        raise BadInput("The dictionary reads several models; expected one of this subject alone.")
    draw = torch.Generator().manual_seed(seed)
    words = torch.cat([batch.ids[batch.text] for batch in passages.batches])
    control = _Random(dictionary, seed)
    counts, documents = [], []
    for batch in passages:
        levels = [_counts(subject, _noisy(batch, level, words, draw), dictionary, control) for level in LEVELS]
        counts.append(torch.stack(levels, 1))
        documents.append(batch.documents)
    count, where = torch.cat(counts), torch.cat(documents)
    rho = torch.stack([_spearman(count[..., column]) for column in range(4)], 1)
    scores = [_score("concepts_under_noise", "concepts_under_noise@1", "Spearman's rho", rho, where, seed)]
    for number in range(len(LEVELS)):
        scores.append(_score(f"concepts:level {number}", "concepts@1", "latents a sequence", count[:, number], where, seed))
    return scores


class _Random:
    """Random directions in place of the latents, as often active as they were on the first rows seen, which have no noise."""

    def __init__(self, dictionary: Dictionary, seed: int):
        width = sum(dictionary.reads.values())
        draw = torch.Generator().manual_seed(seed + 1)
        self.directions = torch.nn.functional.normalize(torch.randn(width, dictionary.n_latents, generator=draw), dim=0)
        self.centre: Tensor | None = None
        self.threshold = 0.0

    def active(self, x: Float[Tensor, "n d"], as_often: float) -> Bool[Tensor, "n m"]:
        if self.centre is None:
            self.centre = x.mean(0)
            said = ((x - self.centre) @ self.directions).flatten()
            self.threshold = float(said.kthvalue(max(1, min(len(said), round((1 - as_often) * len(said))))).values)
        return (x - self.centre) @ self.directions > self.threshold


def _noisy(batch: Passage, level: int, words: Int[Tensor, " w"], draw: torch.Generator) -> Passage:
    return Passage(batch.inputs._replace(ids=noisy(batch.ids, batch.text, level, words, draw)), batch.where)


def _counts(subject: Subject, batch: Passage, dictionary: Dictionary, control: _Random) -> Float[Tensor, "b 4"]:
    """Of each sequence: latents and random directions active in it, and the mean of each a token."""
    acts = read(subject, batch, [port.site for port in dictionary.reads])
    rows = {port: acts[port.site][batch.text].flatten(1) for port in dictionary.reads}
    codes = dictionary.encode(rows)
    place = torch.arange(len(batch.ids))[:, None].expand(batch.text.shape)[batch.text]
    live = codes.value != 0
    often = float(live.sum()) / max(1, len(codes) * codes.width)
    said = control.active(dictionary.joined(rows), often)
    columns = []
    for row in range(len(batch.ids)):
        mine = live & (place[codes.row] == row)
        theirs = said[place == row]
        n = max(1, len(theirs))
        columns.append([len(codes.index[mine].unique()), int(theirs.any(0).sum()), int(mine.sum()) / n, int(theirs.sum()) / n])
    return torch.tensor(columns, dtype=torch.float64)


def _spearman(counts: Float[Tensor, "n l"]) -> Float[Tensor, " n"]:
    """Of level and count, ties at their mean rank; 0 where all counts are alike."""
    rank = (counts[:, :, None] > counts[:, None]).sum(2) + 0.5 * (counts[:, :, None] == counts[:, None]).sum(2)
    x = rank - rank.mean(1, keepdim=True)
    y = torch.arange(counts.shape[1], dtype=torch.float64)
    y = y - y.mean()
    return (x * y).sum(1) / (x.norm(dim=1) * y.norm()).clamp_min(1e-12)


def _score(
    name: str, definition: str, unit: str, found: Float[Tensor, "n 4"], documents: Int[Tensor, " n"], seed: int
) -> Score:
    sums, counts = by_document(found, documents)
    value, spread = mean_interval(sums[:, 0], counts, seed=seed)
    mean = (sums.sum(0) / counts.sum()).tolist()
    parts = {"active": mean[2], "control_active": mean[3]}
    return Score(name, definition, value, unit, "neither", len(counts), spread, mean[1], parts)
