"""What comes next when a direction is added, and what a judge says of it.

Next tokens are drawn with the same chance for every variant of a place, so that variants differ by what was added alone.
Letters: p places, v variants, s draws, d width of the site, k explanations.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import normalize

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.judge import Judge
from actscope.core.site import Site
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.judging import checked
from actscope.scores._parts.reading import Reading
from actscope.scores._parts.spots import sequences_of
from actscope.scores._parts.variants import run_variants

STEPS = tuple(2.0**power for power in range(-6, 4))  # strengths tried, in norms of what stands at the site
BEFORE = 4  # tokens that stand before a place at least
FEWEST = 8  # sequences in which a latent fires: with fewer nothing is said of it

TUNED = 24  # places at which a strength is tried

Measure = Callable[[Tensor, Tensor], Tensor]  # Int[g] places, Float[g v vocab] log-probabilities -> a row a place


@dataclass(frozen=True)
class Places:
    """Places of text at which to steer."""

    subject: Subject
    site: Site
    sequences: list[Tensor]
    spots: Int[Tensor, "p 2"]  # (sequence, index in it)
    document: Int[Tensor, " p"]  # its number among those of the places
    seed: int

    @staticmethod
    def of(
        subject: Subject, site: Site, store: Store, documents: Sequence[int] | None, count: int, *, least: int, seed: int
    ) -> "Places":
        """`count` places, each from another document while there are such, with at least `least` tokens before them."""
        _, where = store.text
        allowed = where[:, 1] >= least
        if documents is not None:
            allowed &= torch.isin(where[:, 0], torch.tensor(sorted(documents)))
        if not allowed.any():
            raise BadInput(f"No document given has a token with {least} before it; give longer documents, or least= below.")
        return Places.among(subject, site, store, where[allowed], count, seed=seed)

    @staticmethod
    def among(subject: Subject, site: Site, store: Store, where: Int[Tensor, "k 2"], count: int, *, seed: int) -> "Places":
        """`count` of these (document, position), drawn at random, each from another document while there are such."""
        where = where[torch.randperm(len(where), generator=torch.Generator().manual_seed(seed))].long()
        names = where[:, 0].unique(return_inverse=True)[1]
        turn = torch.zeros(len(where), dtype=torch.long)  # how many of its document stand before it
        order = names.argsort(stable=True)
        counts = torch.bincount(names)
        turn[order] = torch.arange(len(where)) - torch.repeat_interleave(counts.cumsum(0) - counts, counts)
        where = where[turn.argsort(stable=True)[:count]]
        sequences, spots = sequences_of(store, where)
        return Places(subject, site, sequences, spots, where[:, 0].unique(return_inverse=True)[1], seed)

    def __len__(self) -> int:
        return len(self.spots)

    @cached_property
    def norm(self) -> float:
        """The mean norm of what stands at the site at these places."""
        with torch.no_grad():
            found = []
            for number, index in self.spots.tolist():
                ids = self.sequences[number][: index + 1].long()[None]
                found.append(self.subject.run(ids, read=[self.site]).acts[self.site][0, -1].float().flatten().norm())
        return float(torch.stack(found).mean())

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        return tuple(self.subject.pieces(range(self.subject.sites[Site("logits")].width)))

    def first(self, count: int) -> "Places":
        return Places(self.subject, self.site, self.sequences, self.spots[:count], self.document[:count], self.seed)

    @torch.no_grad()
    def each(self, added: Float[Tensor, "v d"], measure: Measure) -> Shaped[Tensor, "p ..."]:
        """What `measure` makes of the next-token log-probabilities with each vector added, for every place."""
        found: list[Tensor] = [torch.zeros(0)] * len(self)
        vectors = added[None].expand(len(self), -1, -1)
        for here, logits in run_variants(
            self.subject, self.site, self.sequences, self.spots, lambda at: vectors[at], len(added)
        ):
            for number, one in zip(here.tolist(), measure(here, logits.log_softmax(-1)), strict=True):
                found[number] = one
        return torch.stack(found)

    def moved(self, unit: Float[Tensor, " d"], lengths: Sequence[float]) -> Float[Tensor, " lengths"]:
        """Mean KL divergence, in nats, of the next token from what it was, with `unit` added at each length."""
        scales = torch.tensor([0.0, *lengths])

        def divergence(_: Tensor, chance: Tensor) -> Tensor:
            return (chance[:, :1].exp() * (chance[:, :1] - chance[:, 1:])).sum(-1)

        return self.each(scales[:, None] * unit, divergence).mean(0)

    def strength(self, unit: Float[Tensor, " d"], kl: float) -> tuple[float, float]:
        """(the length at which `unit` moves the next token by about `kl` nats on average, what it moves it by there): between
        the first two of STEPS around it on a logarithmic scale; the largest, where none moves it so much."""
        lengths = [step * self.norm for step in STEPS]
        moved = self.moved(unit, lengths).clamp_min(1e-9).log2()
        target = math.log2(kl)
        above = [number for number, one in enumerate(moved.tolist()) if one >= target]
        at = above[0] if above else len(lengths) - 1
        length = lengths[at]
        if above and at:
            share = (target - float(moved[at - 1])) / max(float(moved[at] - moved[at - 1]), 1e-9)
            length = lengths[at - 1] * (lengths[at] / lengths[at - 1]) ** share
        return length, float(self.moved(unit, [length])[0])

    def drawn(self, added: Float[Tensor, "v d"], samples: int) -> Int[Tensor, "p v s"]:
        """Next tokens drawn with each vector added, by inverting the distribution at the same chances for all variants."""
        chance = torch.rand(len(self), 1, samples, generator=torch.Generator().manual_seed(self.seed + 1)).double()

        def draw(here: Tensor, logs: Tensor) -> Tensor:
            total = logs.double().exp().cumsum(-1)
            at = chance[here].expand(-1, len(added), -1).contiguous()
            return torch.searchsorted(total, at).clamp_max(total.shape[-1] - 1)

        return self.each(added, draw)

    def told(self, judge: Judge, explanation: Explanation, tokens: Int[Tensor, "p v s"], window: int) -> Float[Tensor, "p v s"]:
        """The judge's answer at every token drawn, each read with up to `window` tokens that stand before it."""
        flat = tokens.flatten(1)
        cases, back = torch.stack([torch.arange(len(self))[:, None].expand_as(flat), flat], -1).flatten(0, 1).unique(
            dim=0, return_inverse=True
        )  # fmt: skip
        ids, lengths = [], []
        for place, token in cases.tolist():
            number, index = self.spots[place].tolist()
            prefix = self.sequences[number][max(0, index + 1 - window) : index + 1].long()
            ids.append(torch.cat([prefix, torch.tensor([token])]))
            lengths.append(len(prefix) + 1)
        size = torch.tensor(lengths)
        place = torch.arange(int(size.sum())) - torch.repeat_interleave(size.cumsum(0) - size, size)
        where = torch.stack([torch.repeat_interleave(torch.arange(len(cases)), size), place], 1)
        text = TokenText(torch.cat(ids), where, self.vocabulary)
        return checked(judge, explanation, text, size.cumsum(0) - 1)[back].view(tokens.shape)


class Steering(NamedTuple):
    """Where and how strongly to steer with one latent. kl: nats by which that moves the next token, on average."""

    at: Places
    unit: Float[Tensor, " d"]
    length: float
    kl: float


def steering_of(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    documents: Iterable[int] | None,
    where: str,
    count: int,
    *,
    factor: float,
    kl: float | None,
    seed: int,
    reading: Reading | None = None,
) -> Callable[[int], Steering | None]:
    """Latent -> up to `count` places at which to steer with it, and its direction and strength.

    where: "firing", where the latent first fires in a sequence, random sequences, with at least BEFORE tokens before; None
    for a latent that has fewer than FEWEST such places. "anywhere": random places, the same for all.
    factor: times the latent's largest activation; None for one that never fires. kl: in its place, the strength at which
    the next token's distribution moves by so many nats at the first TUNED places (up to the largest of STEPS).
    reading: the documents encoded, in place of `documents` (None: it is done here, where it is needed). Raises BadInput for
    another `where`, no strength, no such place in the documents, or where random directions move no logit.
    """
    if where not in ("firing", "anywhere"):
        raise BadInput(f"where={where!r} given; expected 'firing' or 'anywhere'.")
    if not (math.isfinite(factor) and factor and (kl is None or 0 < kl < math.inf)):
        raise BadInput(f"factor={factor}, kl={kl} given; expected times the largest activation, not 0, or nats above 0.")
    inside = None if documents is None else sorted(documents)
    if reading is not None:
        inside = reading.text.where[:, 0].unique().tolist()
    every = Places.of(subject, dictionary.write.site, store, inside, count, least=BEFORE, seed=seed)
    check_reaches(every.first(TUNED))
    if reading is None and (where == "firing" or kl is None):
        reading = Reading.of(dictionary, store, TokenText.of(store, subject), inside)
    atoms = dictionary.atoms[dictionary.write].detach().float().cpu()

    def firing(read: Reading, latent: int) -> Places | None:
        rows, _ = read.active(latent)
        begins = read.text.start[rows]
        first = torch.ones_like(begins, dtype=torch.bool)
        first[1:] = begins[1:] != begins[:-1]
        rows = rows[first & (read.text.place[rows] >= BEFORE)]
        spots = read.text.where[rows]
        return Places.among(subject, every.site, store, spots, count, seed=seed) if len(rows) >= FEWEST else None

    def steering(latent: int) -> Steering | None:
        at = every if where == "anywhere" or reading is None else firing(reading, latent)
        if at is None:
            return None
        unit = normalize(atoms[latent], dim=0)
        if kl is not None:
            return Steering(at, unit, *at.first(TUNED).strength(unit, kl))
        assert reading is not None, "read above, where a strength is a factor"
        _, values = reading.active(latent)
        if not len(values):
            return None
        length = factor * float(values.max()) * float(atoms[latent].norm())
        return Steering(at, unit, length, float(at.first(TUNED).moved(unit, [length])[0]))

    return steering


def random_units(count: int, width: int, *, seed: int) -> Float[Tensor, "count d"]:
    """Random directions of length 1."""
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1)


def check_reaches(places: Places) -> None:
    """Raises BadInput where a random direction at the site moves no logit: nothing there can be controlled."""
    width = places.subject.sites[places.site].width
    if not float(places.moved(random_units(1, width, seed=places.seed)[0], [places.norm])) > 0:
        raise BadInput(
            f"Adding random directions at {places.site} changes no logit, so effects there cannot be controlled; fit the "
            "dictionary at a site the logits depend on."
        )
