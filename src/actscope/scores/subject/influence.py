"""Where a token's influence goes. KL tracing: Kim, Aw, Kotar et al. 2025, "Taming generative video models for zero-shot optical
flow extraction" (arXiv:2507.09082), who perturb a patch of one frame and see where the prediction of the next one changes; here
in text.

1. Run each sequence; p_j is what the model predicts after token j.
2. In place of one token i, drawn in the first half of the sequence, put another token of the text; q_j is predicted now.
3. The influence on place j is KL(p_j || q_j), in nats, by lag j - i; before i it is 0 in a causal model.
4. Control: the token stays, and its embedding is moved just as far in a random direction.

Letters: b batch, t tokens, l lags.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.errors import BadInput, NotFinite
from actscope.core.inputs import predicted_text
from actscope.core.intervention import Add
from actscope.core.score import Score
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.scores._parts.bootstrap import by_document
from actscope.scores._parts.cost import Cost
from actscope.scores._parts.passages import Passage, Passages
from actscope.scores._parts.totals import totals_interval
from actscope.scores._parts.tracing import divergence

__all__ = ["influence"]

COST = Cost("pairs", forward=5)
_EMBED, _LOGITS = Site("embed"), Site("logits")
_NEAR = 8  # the last lag of the one figure


@torch.no_grad()
def influence(subject: Subject, passages: Passages, *, draws: int = 2, seed: int = 0) -> list[Score]:
    """How much one token sways later predictions: the mean KL, in nats a place, over lags 1 to 8, then a Score a lag:
    "influence:lag 0", 1, 2 to 3, 4 to 7... named by the first lag (Kim et al. 2025, arXiv:2507.09082).

    draws: tokens replaced a sequence, one at a time. Control: the same where the embedding is moved as far in a random
    direction. Interval: bootstrap over documents. parts: places; low, high (interval of influence - control, paired over
    documents). Raises BadInput for a subject that predicts no next token or has no embedding that can be written, NotFinite.
    """
    if not subject.causal or _LOGITS not in subject.sites or _EMBED not in subject.sites:
        raise BadInput(f"{subject.name} predicts no next token, or its embeddings cannot be written; influence needs both.")
    draw = torch.Generator().manual_seed(seed)
    words = torch.cat([batch.ids[batch.text] for batch in passages.batches])
    lags, sways, where = [], [], []
    for batch in passages:
        clean = subject.run(batch.inputs, read=[_EMBED, _LOGITS]).acts
        for _ in range(draws):
            place = _drawn(batch, draw)
            changed, moved = _runs(subject, batch, place, words, clean[_EMBED], draw)
            sway = torch.stack([divergence(clean[_LOGITS], other) for other in (changed, moved)], -1)
            lag = torch.arange(batch.ids.shape[1]) - place[:, None]
            here = predicted_text(batch.inputs) & (lag >= 0)
            lags.append(lag[here])
            sways.append(sway.cpu()[here])
            where.append(batch.where[here][:, 0])
    lag, sway, document = torch.cat(lags), torch.cat(sways), torch.cat(where)
    if not len(lag):
        raise BadInput(f"No sequence of {passages.name} has a token that later ones follow; give longer documents.")
    if not bool(sway.isfinite().all()):
        raise NotFinite(f"The predictions of {subject.name} hold NaN or infinity on this text; look at its weights.")
    edges = [0, *(2**power for power in range(int(lag.max()).bit_length()))]
    bins = torch.bucketize(lag, torch.tensor(edges), right=True) - 1
    near = (lag >= 1) & (lag <= _NEAR)
    scores = [_score("influence", sway[near], document[near], seed)] if bool(near.any()) else []
    for number, edge in enumerate(edges):
        if bool((bins == number).any()):
            scores.append(_score(f"influence:lag {edge}", sway[bins == number], document[bins == number], seed))
    return scores


def _drawn(batch: Passage, draw: torch.Generator) -> Int[Tensor, " b"]:
    """A token of text in the first half of those of each sequence; far beyond it where there is none."""
    order = batch.text.cumsum(1)
    half = order[:, -1].div(2, rounding_mode="floor")
    chosen = 1 + (torch.rand(len(half), generator=draw) * half).long()
    found = batch.text & (order == chosen[:, None])
    return torch.where(half > 0, found.long().argmax(1), batch.ids.shape[1])


def _runs(
    subject: Subject, batch: Passage, place: Tensor, words: Tensor, embed: Tensor, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Logits with another token at `place`, and with its embedding moved as far in a random direction."""
    ids, row = batch.ids.clone(), (place < batch.ids.shape[1]).nonzero()[:, 0]
    place = place[row]
    new = words[torch.randint(len(words), (len(row),), generator=draw)]
    ids[row, place] = torch.where(new == ids[row, place], words[torch.randint(len(words), (len(row),), generator=draw)], new)
    changed = subject.run(batch.inputs._replace(ids=ids), read=[_EMBED, _LOGITS]).acts
    far = (changed[_EMBED] - embed).cpu()[row, place].norm(dim=-1, keepdim=True)
    way = torch.nn.functional.normalize(torch.randn(len(row), embed.shape[-1], generator=draw), dim=-1)
    shift = torch.zeros(embed.shape)
    shift[row, place] = far.float() * way
    moved = subject.run(batch.inputs, write=[Add(_EMBED, shift)]).logits
    assert moved is not None, "a run without reads computes logits"
    return changed[_LOGITS], moved


def _score(name: str, sway: Float[Tensor, "n 2"], documents: Tensor, seed: int) -> Score:
    sums, counts = by_document(sway, documents)
    table = torch.cat([sums, counts[:, None]], 1)
    value, control = (sums.sum(0) / counts.sum()).tolist()
    parts = {"places": float(counts.sum())}
    gap = totals_interval(table, lambda total: (total[:, 0] - total[:, 1]) / total[:, 2], seed=seed)
    parts |= {} if gap is None else {"low": gap[0], "high": gap[1]}
    spread = totals_interval(table, lambda total: total[:, 0] / total[:, 2], seed=seed)
    return Score(name, "influence@1", value, "nats per place", "neither", len(counts), spread, control, parts)
