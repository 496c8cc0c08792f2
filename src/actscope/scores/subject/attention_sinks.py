"""Attention sinks. Gu et al. 2024, "When Attention Sink Emerges in Language Models: An Empirical View" (arXiv:2410.10781);
Xiao et al. 2023, "Efficient Streaming Language Models with Attention Sinks" (arXiv:2309.17453).

1. alpha(k) of a head: the mean, over all tokens i >= k of a sequence, of the attention that i pays to token k.
2. A token is a sink of a head where alpha(k) is over epsilon.
3. Sink = the share of heads, of all layers, of which the first token is a sink, averaged over sequences.
4. Xiao et al.: the share of all attention that the first four tokens get, from tokens after them.

Letters: b batch, h heads, t tokens.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.score import Score
from actscope.core.subject import Subject
from actscope.scores._parts.bootstrap import by_document
from actscope.scores._parts.cost import Cost
from actscope.scores._parts.passages import Passage, Passages, layers, mean_interval, read
from actscope.scores._parts.sinks import LATER, received

__all__ = ["attention_sinks"]

COST = Cost("one pass", forward=1)
_FIRST = 4  # Xiao et al.'s sink tokens


def attention_sinks(subject: Subject, passages: Passages, *, epsilon: float = 0.3, seed: int = 0) -> list[Score]:
    """The share of heads that pay the first token more than `epsilon` of their attention: over all layers, then a Score a layer
    (Gu et al. 2024, arXiv:2410.10781).

    Control: the same of another token, drawn from each sequence among those that at least 8 tokens can see. Interval: bootstrap
    over documents. Sequences of fewer than 10 tokens are left out. parts: first (mean attention to the first token), four (to
    the first four, from tokens after them; Xiao et al. 2023), elsewhere (share of heads with a sink at some other token);
    a layer's also "head 0", "head 1"...: the mean attention each pays to the first token.
    Raises BadInput where attention maps cannot be read or no sequence is long enough, NotFinite.
    """
    sites = layers(subject, "attn_pattern")
    found: dict[str, list[Tensor]] = {str(site): [] for site in sites}
    documents = []
    draw = torch.Generator().manual_seed(seed)
    for batch in passages:
        long = batch.mask.sum(1) >= LATER + 2
        if not bool(long.any()):
            continue
        acts = read(subject, batch, sites)
        another = _another(batch, subject.causal, draw)
        documents.append(batch.documents[long])
        for site in sites:
            found[str(site)].append(_measured(acts[site], batch, another, epsilon, subject.causal)[long])
    if not documents:
        raise BadInput(
            f"No sequence of {passages.name} has {LATER + 2} tokens, so none can have a sink; give longer documents."
        )
    where = torch.cat(documents)
    by_layer = {name: torch.cat(parts) for name, parts in found.items()}
    mean = torch.stack([x[:, :5] for x in by_layer.values()]).mean(0)
    return [
        _score("attention_sinks", mean, where, seed),
        *(_score(f"attention_sinks:{name}", x, where, seed) for name, x in by_layer.items()),
    ]


def _another(batch: Passage, causal: bool, draw: torch.Generator) -> Tensor:
    """A token of each sequence that is not the first and that enough tokens see."""
    room = batch.mask.sum(1) - (LATER if causal else 1)
    return 1 + (torch.rand(len(room), generator=draw) * (room - 1).clamp_min(1)).long()


def _measured(
    pattern: Float[Tensor, "b h t t"], batch: Passage, another: Tensor, epsilon: float, causal: bool
) -> Float[Tensor, "b c"]:
    """Of each sequence: share of heads with a sink at the first token, at another, at any other; attention to the first, to the
    first four; then each head's to the first."""
    b, h, t, _ = pattern.shape
    alpha, seen_by = received(pattern, batch.mask, causal=causal)
    eligible = (seen_by >= LATER) & (torch.arange(t) > 0)
    sink = alpha > epsilon
    first = alpha[:, :, 0]
    after = batch.mask & batch.mask[:, :1] & (torch.arange(t) >= _FIRST)
    four = (pattern[..., :_FIRST].sum(-1).mean(1) * after).sum(1) / after.sum(1).clamp_min(1)
    columns = [
        sink[:, :, 0].float().mean(1),
        sink.gather(2, another[:, None, None].expand(b, h, 1))[..., 0].float().mean(1),
        (sink & eligible[:, None]).any(2).float().mean(1),
        first.mean(1),
        four,
    ]
    return torch.cat([torch.stack(columns, 1), first], 1).double()


def _score(name: str, found: Float[Tensor, "n c"], documents: Tensor, seed: int) -> Score:
    sums, counts = by_document(found, documents)
    value, spread = mean_interval(sums[:, 0], counts, seed=seed)
    mean = (sums.sum(0) / counts.sum()).tolist()
    parts = {"first": mean[3], "four": mean[4], "elsewhere": mean[2]}
    parts |= {f"head {number}": share for number, share in enumerate(mean[5:])}
    return Score(name, "attention_sinks@1", value, "share of heads", "neither", len(counts), spread, mean[1], parts)
