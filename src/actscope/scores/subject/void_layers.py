"""Voids: layers that a token passes without being changed much. Shemiranifar 2025, "Void in Language Models"
(arXiv:2505.14467), by L2 adaptive computation (LAC).

1. Of each token, delta_l = |h_l| - |h_(l-1)|: how much longer layer l makes it (Euclidean).
2. lambda_l = alpha (max - min) of the deltas seen so far, delta_l included.
3. Layer l is a void for the token where delta_l < lambda_l.
4. Skipping, in a second run: where a layer is a void for a token, the token leaves it as it came.
5. Control, in a third run: as many layers of each token, drawn at random, are skipped. A stricter one, in a fourth: each layer
   is skipped as often as before, at other tokens, drawn at random.

delta has a sign: a layer that shortens what it is given counts as a void however much it turns it, and so do layers that only
turn it. The loss says whether it did nothing. The paper traces prompt and response apart; here all tokens are a prompt's. Its
code takes step 2's span of the deltas before l alone, and skips by taking the state after the last layer that is no void.
Letters: b batch, t tokens, l layers.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from actscope.core.errors import BadInput
from actscope.core.inputs import predicted_text
from actscope.core.score import Score
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.scores._parts.bootstrap import by_document
from actscope.scores._parts.cost import Cost
from actscope.scores._parts.losses import token_losses
from actscope.scores._parts.passages import Passages, layers, mean_interval, read
from actscope.scores._parts.totals import totals_interval
from actscope.scores._parts.voids import drawn, elsewhere, skipping, voids

__all__ = ["void_layers"]

COST = Cost("pairs", forward=4)
_LOGITS = Site("logits")


@torch.no_grad()
def void_layers(subject: Subject, passages: Passages, *, alpha: float = 0.8, seed: int = 0) -> list[Score]:
    """The share of (token, layer) that are voids, then what skipping them costs in loss, then the share of each layer
    (Shemiranifar 2025, arXiv:2505.14467).

    "void_layers": control none, for a share has none; n documents. "void_skipping": nats per token that the next-token loss
    rises when voids are skipped; control: when as many layers of the same tokens are skipped at random. parts: clean, voids,
    random, elsewhere (nats per token; elsewhere: step 5's stricter control), and "random - voids" and "elsewhere - voids", each
    with its ends, " low" and " high" (paired bootstrap over documents; above 0: voids are better to skip than chance). Special
    tokens are never skipped.
    Raises BadInput for a subject that predicts no next token or has no stream between layers, NotFinite.
    """
    if not subject.causal or _LOGITS not in subject.sites:
        raise BadInput(f"{subject.name} predicts no next token, so what skipping costs cannot be said.")
    before, after = layers(subject, "resid_pre"), layers(subject, "resid_post")
    draw = torch.Generator().manual_seed(seed)
    shares, losses, tokens_of, predicted_of = [], [], [], []
    for batch in passages:
        text = batch.text
        acts = read(subject, batch, [before[0], *after, _LOGITS])
        lengths = torch.stack([acts[site].norm(dim=-1) for site in (before[0], *after)], -1)
        void = voids(lengths, alpha) & text[..., None]
        others = (drawn(void, draw), elsewhere(void, text, draw))
        runs = [token_losses(subject, batch.inputs, acts[_LOGITS])]
        for each in (void, *others):
            logits = subject.run(batch.inputs, write=skipping(before, after, each)).logits
            runs.append(token_losses(subject, batch.inputs, logits))
        shares.append(void[text].double())
        losses.append(torch.stack(runs, 1))
        tokens_of.append(batch.where[text][:, 0])
        predicted_of.append(batch.where[predicted_text(batch.inputs)][:, 0])
    share, where = torch.cat(shares), torch.cat(tokens_of)
    found = [_share("void_layers", share.mean(1), where, seed)]
    found.append(_skipped(torch.cat(losses), torch.cat(predicted_of), seed))
    return [*found, *(_share(f"void_layers:{site}", share[:, i], where, seed) for i, site in enumerate(after))]


def _share(name: str, share: Float[Tensor, " n"], documents: Tensor, seed: int) -> Score:
    sums, counts = by_document(share[:, None], documents)
    value, spread = mean_interval(sums[:, 0], counts, seed=seed)
    unit = "share of tokens" if ":" in name else "share of (token, layer)"
    return Score(name, "void_layers@1", value, unit, "neither", len(counts), spread)


def _skipped(losses: Float[Tensor, "n 4"], documents: Tensor, seed: int) -> Score:
    sums, counts = by_document(losses, documents)
    clean, voids, random, elsewhere = (sums.sum(0) / counts.sum()).tolist()
    table = torch.cat([sums, counts[:, None]], 1)
    parts = {"clean": clean, "voids": voids, "random": random, "elsewhere": elsewhere}
    for column, name, value in ((2, "random", random), (3, "elsewhere", elsewhere)):
        parts[f"{name} - voids"] = value - voids
        gap = totals_interval(table, lambda total, column=column: (total[:, column] - total[:, 1]) / total[:, 4], seed=seed)
        parts |= {} if gap is None else {f"{name} - voids low": gap[0], f"{name} - voids high": gap[1]}
    spread = totals_interval(table, lambda total: (total[:, 1] - total[:, 0]) / total[:, 4], seed=seed)
    return Score(
        "void_skipping",
        "void_skipping@1",
        voids - clean,
        "nats per token",
        "lower",
        int(counts.sum()),
        spread,
        random - clean,
        parts,
    )
