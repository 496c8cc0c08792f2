"""Can latents make the model forget one thing, and what else does it forget? Farrell et al. 2024 (arXiv:2410.19278), as
SAEBench scores it (Karvonen et al. 2025, arXiv:2503.09532), with loss in place of exam questions.

    1. Forget rows hold the label, or the token after them does; all others are retain rows. On the documents `choose`, how
       often each latent is active on either.
    2. Latents active on more than `frequency` of the retain rows are let be. Of the others, the n most often active on forget
       rows, wherever active, are set to -multiplier times their mean active value; what the dictionary misses is kept.
    3. Over every n and multiplier, on `choose`: what the loss at tokens with the label rises by, and at all others. The setting
       with the largest rise of the first is taken, among those whose second is at most `allowed` of the loss as it was.
    4. On `test`: the rise of the loss at tokens with the label, in nats. 0 where no setting is allowed.

SAEBench takes the best setting on the questions it reports; here it is chosen on other documents.
Letters: b sequences, t tokens, d width, m latents, s latents clamped, g documents.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted
from actscope.core.inputs import predicted_text, real_text
from actscope.core.intervention import At, Context
from actscope.core.labels import Labels
from actscope.core.progress import stop_requested
from actscope.core.score import Score
from actscope.core.site import Site
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.scores._parts.asked import halves
from actscope.scores._parts.census import row_batches
from actscope.scores._parts.reading import check_subject
from actscope.scores._parts.splices import batch_of
from actscope.scores._parts.totals import document_sums, totals_interval

__all__ = ["unlearning"]


def unlearning(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    labels: Labels,
    *,
    forget: str,
    choose: Iterable[int] | None = None,
    test: Iterable[int] | None = None,
    ns: Sequence[int] = (5, 10, 20),
    multipliers: Sequence[float] = (0.0, 1.0, 3.0),
    frequency: float = 0.01,
    allowed: float = 0.01,
    draws: int = 5,
    most: int = 150,
    seed: int = 0,
) -> Score:
    """How much worse the model predicts tokens of one label, for at most `allowed` more loss on everything else.

    forget: the label. most: documents of each half, those that hold the label first up to half of them. parts: retain (the rise
    elsewhere on `test`), clean_forget, clean_retain (loss as it is), n, multiplier, latents (that passed step 2 and are active
    on forget rows), control_retain. control: as many others of those latents clamped alike, mean of `draws`; absent where there
    are none. n: documents. Interval: bootstrap over the test documents; latents and setting stand fixed.
    Raises BadInput for an unknown label or one that no document of a half holds, UnknownSite, WrongSubject.
    """
    check_subject(dictionary, subject, store)
    if forget not in labels.causes:
        raise BadInput(f"No label {forget!r}; there are {', '.join(labels.causes)}.")
    bench = _Bench(dictionary, subject, store, labels, forget)
    chosen, tested = (_some(store, labels, forget, group, most) for group in halves(store, choose, test, seed=seed))
    seen = _Seen.of(bench, chosen)
    order = seen.order(frequency)
    setting = _setting(bench, seen, order, chosen, ns, multipliers, allowed)
    before = bench.losses(tested)
    clean = before.sum(0)
    parts = {
        "clean_forget": float(clean[0] / clean[1]),
        "clean_retain": float(clean[2] / clean[3]),
        "latents": float(len(order)),
    }
    score = Score("unlearning", "unlearning@1", 0.0, "nats per token", "higher", len(before), parts=parts | {"n": 0.0})
    if setting is None:
        return score
    n, multiplier = setting
    after = bench.losses(tested, seen.clamp(bench, order[:n], multiplier))
    parts |= {"n": float(n), "multiplier": multiplier, "retain": float(_rise(after, before)[1])}
    generator = torch.Generator().manual_seed(seed)
    random = [order[n:][torch.randperm(len(order) - n, generator=generator)[:n]] for _ in range(draws if len(order) > n else 0)]
    rises = [_rise(bench.losses(tested, seen.clamp(bench, one, multiplier)), before) for one in random]
    control = None
    if rises:
        control, parts["control_retain"] = torch.stack(rises).mean(0).tolist()
    pairs = torch.stack([after[:, 0] - before[:, 0], before[:, 1]], dim=1)
    spread = totals_interval(pairs, lambda total: total[:, 0] / total[:, 1], seed=seed)
    value = float(_rise(after, before)[0])
    return replace(score, value=value, interval=spread, control=control, parts=parts)


def _setting(
    bench: "_Bench",
    seen: "_Seen",
    order: Int[Tensor, " c"],
    documents: Sequence[int],
    ns: Sequence[int],
    multipliers: Sequence[float],
    allowed: float,
) -> tuple[int, float] | None:
    """Step 3."""
    before = bench.losses(documents)
    most = allowed * float(before[:, 2].sum() / before[:, 3].sum())
    best, setting = 0.0, None
    for n in sorted({min(n, len(order)) for n in ns} - {0}):
        for multiplier in multipliers:
            forget, retain = _rise(bench.losses(documents, seen.clamp(bench, order[:n], multiplier)), before).tolist()
            if retain <= most and forget > best:
                best, setting = forget, (n, multiplier)
    return setting


def _rise(after: Float[Tensor, "g 4"], before: Float[Tensor, "g 4"]) -> Float[Tensor, " 2"]:
    """Nats per token added at tokens with the label, and at the others."""
    gained = (after - before).sum(0)
    return torch.stack([gained[0] / before[:, 1].sum(), gained[2] / before[:, 3].sum()])


def _some(store: Store, labels: Labels, forget: str, documents: Sequence[int], most: int) -> list[int]:
    holding = set((labels.holds[forget] // 2**32).tolist())
    inside = [number for number in documents if number in holding][: most // 2]
    if not inside:
        raise BadInput(f"No document of a half holds {forget!r}; give more text.")
    return sorted(inside + [number for number in documents if number not in holding][: most - len(inside)])


@dataclass(frozen=True)
class _Clamp:
    """Some latents set to given values wherever they are active."""

    dictionary: Dictionary
    site: Site
    latents: Int[Tensor, " s"]
    values: Float[Tensor, " s"]

    @property
    def reads(self) -> tuple[Site, ...]:
        return tuple(port.site for port in self.dictionary.reads if port.site != self.site)

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        given = {port: x if port.site == self.site else context.seen[port.site] for port in self.dictionary.reads}
        codes = self.dictionary.encode({port: value[context.mask].flatten(1) for port, value in given.items()})
        target = torch.full((codes.width,), torch.nan).scatter(0, self.latents, self.values)[codes.index]
        change = torch.where(target.isnan(), 0.0, target - codes.value)
        atoms = next(atoms for port, atoms in self.dictionary.atoms.items() if port.site == self.site)
        dense = Codes(codes.indptr, codes.index, change, codes.width).dense() @ atoms
        here = x[context.mask]
        mask = context.mask.reshape(*context.mask.shape, *[1] * (x.dim() - 2)).expand_as(x)
        return x.clone().masked_scatter(mask, here + dense.reshape(here.shape).to(here))


@dataclass(frozen=True)
class _Bench:
    """The model's loss on documents of a store, at tokens with the label and at others."""

    dictionary: Dictionary
    subject: Subject
    store: Store
    labels: Labels
    forget: str

    @torch.no_grad()
    def losses(self, documents: Sequence[int], write: Sequence[_Clamp] = ()) -> Float[Tensor, "g 4"]:
        """Nats and tokens with the label, nats and tokens without, of each document."""
        found, numbers = [], []
        for inputs, first in self.store.sequences(batch_of(self.subject), documents):
            if stop_requested():
                raise Interrupted("Stopped while scoring; nothing was to be saved. Run the same command again.")
            assert inputs.ids is not None
            predicts, real = predicted_text(inputs), real_text(inputs)
            logits = self.subject.run(inputs, write=[At(one, real) for one in write]).logits
            assert logits is not None
            target = inputs.ids[:, 1:][predicts[:, :-1]].long()
            loss = functional.cross_entropy(logits[predicts].float().cpu(), target, reduction="none").double()
            place = first[:, None, :] + torch.tensor([0, 1]) * (1 + torch.arange(inputs.ids.shape[1]))[None, :, None]
            where = place[predicts]
            holds = self.labels.at(where)[self.forget].double()
            found.append(torch.stack([loss * holds, holds, loss * (1 - holds), 1 - holds], dim=1))
            numbers.append(where[:, 0])
        return document_sums(torch.cat(found), torch.cat(numbers))


@dataclass(frozen=True)
class _Seen:
    """How often each latent is active on forget and on retain rows, and its mean value where active."""

    forget: Float[Tensor, " m"]
    retain: Float[Tensor, " m"]
    mean: Float[Tensor, " m"]

    @staticmethod
    @torch.no_grad()
    def of(bench: _Bench, documents: Sequence[int]) -> "_Seen":
        m = bench.dictionary.n_latents
        counts, total, rows = torch.zeros(2, m), torch.zeros(m), torch.zeros(2)
        for batch in row_batches(bench.store, bench.dictionary.reads, documents):
            following = batch.where + torch.tensor([0, 1])
            wanted = bench.labels.at(batch.where)[bench.forget] | bench.labels.at(following)[bench.forget]
            codes = bench.dictionary.encode(batch.acts)
            active = codes.value != 0
            for side, mask in enumerate((wanted, ~wanted)):
                counts[side] += torch.bincount(codes.index[active & mask[codes.row]], minlength=m)
                rows[side] += int(mask.sum())
            total.index_add_(0, codes.index, codes.value)
        forget, retain = counts / rows.clamp(min=1)[:, None]
        return _Seen(forget, retain, total / counts.sum(0).clamp(min=1))

    def order(self, frequency: float) -> Int[Tensor, " c"]:
        """Latents that step 2 may take, the most often active on forget rows first."""
        may: Bool[Tensor, " m"] = (self.retain <= frequency) & (self.forget > 0)
        order = torch.where(may, self.forget, -1.0).argsort(descending=True, stable=True)
        return order[: int(may.sum())]

    def clamp(self, bench: _Bench, latents: Int[Tensor, " s"], multiplier: float) -> list[_Clamp]:
        values = -multiplier * self.mean[latents]
        return [_Clamp(bench.dictionary, port.site, latents, values) for port in bench.dictionary.writes]
