"""A beam search for the rule that best tells where one latent fires, at the frequency of the text.

What is maximised is F-beta, less the price of saying the rule. F-beta is not linear, but where a false alarm costs a fixed
number of hits everything is: one matrix product scores "and", "and not" and "or" with every candidate, and the best set of
tokens is simply those that are each worth more than the price of naming them. The cost at which the linear problem has the
rule of the highest F-beta depends on how clear the latent is (F / (1 + beta^2), Lipton et al. 2014, arXiv:1402.1892). So the
beam keeps the best at each of several costs, and F-beta decides among all that were found.

Rows that are not to be hit are drawn the oftener, the likelier a rule about their tokens holds there, and weigh the less: false
alarms count at the frequency of the text, from few rows.

Letters: s rows drawn, p candidates, q rules in the beam, v tokens, 2 hits and false alarms.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

from actscope.core.predicate import Earlier, LineBegins, Predicate, TokenIn
from actscope.core.text import TokenText
from actscope.explainers._parts.candidates import candidates, fields, table
from actscope.explainers._parts.compose import both, either, length, unless

WINDOW = 8  # tokens back in which words of the latent's own contexts are looked for
COSTS = (0.02, 0.08, 0.3)  # of a false alarm, in hits


@dataclass(frozen=True)
class Aim:
    """What the search maximises: F-beta at the frequency of the text, less the price of the rule's length. tokens: the most
    that a rule may list."""

    beta: float = 2.0
    part: float = 0.02
    token: float = 0.003
    tokens: int | None = None

    def price(self, rule: Predicate) -> float:
        parts, tokens = length(rule)
        return self.part * parts + self.token * tokens

    def f(self, hits, alarms):
        """F-beta of recall and of false alarms an activation: (1 + b^2) TP / (TP + FP + b^2 A) where all is divided by A.
        Elementwise."""
        squared = self.beta**2
        return (1 + squared) * hits / (hits + alarms + squared)

    def worth(self, holds: Bool[Tensor, " n"], target: "Target") -> float:
        """F-beta of a rule over all rows, before the price."""
        size = max(1, len(target.active))
        return float(self.f(int(holds[target.active].sum()) / size, int((holds & target.silent).sum()) / size))


class Target(NamedTuple):
    """Rows a rule is to hold at, and rows it is not to; the others count for nothing."""

    active: Int[Tensor, " a"]
    silent: Bool[Tensor, " n"]


class Drawn(NamedTuple):
    """Rows of a target; what each counts for, as a hit and as a false alarm, both in shares of the target's active rows; which
    candidates hold there; of every field the rule, its `back`, each row's place among the ids there are, and those ids."""

    rows: Int[Tensor, " s"]
    weight: Float[Tensor, "2 s"]
    held: Float[Tensor, "s p"]
    fields: list[tuple[str, int, Int[Tensor, " s"], Int[Tensor, " v"]]]


class Found(NamedTuple):
    """A rule, where it holds among the rows drawn, its recall, its false alarms an activation, its price, and a number that
    rules which hold at the same rows share."""

    rule: Predicate | None
    mask: Float[Tensor, " s"]
    hits: float
    alarms: float
    price: float
    name: float

    def worth(self, cost: float) -> float:
        return self.hits - cost * self.alarms - self.price


class Move(NamedTuple):
    """A rule of the beam to be joined with one more part: scored but not yet built."""

    worth: float  # at this cost, with the price of both, which joining can only lower
    cost: float
    name: object
    number: int  # in the beam
    how: str  # "and", "not", "or"
    part: Callable[[], tuple[Predicate, Tensor]]  # the part, and where it holds among the rows drawn


@dataclass(frozen=True)
class Space:
    """All that can be said of one text: candidates with where they hold, and fields with their tokens."""

    text: TokenText
    rules: list[Predicate]
    held: UInt8[Tensor, "n p"]
    lengths: Float[Tensor, "p 2"]  # parts, tokens listed
    fields: list[tuple[str, int, Int[Tensor, " n"]]]
    often: list[Int[Tensor, " v1"]]  # of each field: the rows that have each id, from -1 on
    window: Int[Tensor, "n w"]  # the ids of the last tokens

    @staticmethod
    def of(text: TokenText) -> "Space":
        rules = candidates(text)
        window = torch.stack([text.earlier(back) for back in range(1, WINDOW + 1)], 1)
        lengths = torch.tensor([length(rule) for rule in rules], dtype=torch.float)
        found, size = fields(text), len(text.vocabulary) + 1
        often = [torch.bincount(ids + 1, minlength=size) for _, _, ids in found]
        return Space(text, rules, table(rules, text), lengths, found, often, window)

    def draw(self, target: Target, *, most: int, seed: int) -> Drawn:
        """Up to `most` active rows, and about as many silent ones at random and twice as many where a token that active
        rows have, or have before them, makes a false alarm likely; each weighs one over its chance of being drawn."""
        generator = torch.Generator().manual_seed(seed)
        suspect = torch.zeros(len(self.text))
        for (_, _, ids), often in zip(self.fields, self.often, strict=True):
            share = torch.bincount(ids[target.active] + 1, minlength=len(often)) / often.clamp(min=1)
            suspect = torch.maximum(suspect, share[ids + 1])
        suspect = suspect * target.silent
        chance = most / target.silent.sum().clamp(min=1) + 2 * most * suspect / suspect.sum().clamp(min=1e-9)
        chance = chance.clamp(max=1) * target.silent
        silent = (torch.rand(len(chance), generator=generator) < chance).nonzero()[:, 0]
        active = target.active[torch.randperm(len(target.active), generator=generator)[:most]]
        rows, kept = torch.cat([active, silent]), len(active)
        weight = torch.zeros(2, len(rows))
        weight[0, :kept] = 1 / max(1, kept)
        weight[1, kept:] = 1 / chance[silent] / max(1, len(target.active))
        there = [(kind, back, *ids[rows].unique(return_inverse=True)[::-1]) for kind, back, ids in self.fields]
        return Drawn(rows, weight, self.held[rows].float(), there)


@dataclass
class Search:
    """The search for one target. `tried` counts the rules that were scored."""

    space: Space
    drawn: Drawn
    aim: Aim
    beam: int
    tried: int = 0
    _held: Float[Tensor, "s p"] = field(init=False)
    _rules: list[Predicate] = field(init=False)
    _lengths: Float[Tensor, "p 2"] = field(init=False)
    _told: Float[Tensor, "3 s"] = field(init=False)  # what a row counts for as a hit, as a false alarm, and in a rule's name
    _words: tuple[Tensor, Tensor, Tensor] = field(init=False)  # ids of the window, place among them, whether seen before

    def __post_init__(self):
        rows, self._held = self.drawn.rows, self.drawn.held
        self._rules, self._lengths = list(self.space.rules), self.space.lengths
        most = 2**24 // max(1, len(rows))  # sums of whole numbers up to 2^24 are exact, in whatever order
        mixed = torch.randint(most, (1, len(rows)), generator=torch.Generator().manual_seed(0))
        self._told = torch.cat([self.drawn.weight, mixed.float()])
        names, place = self.space.window[rows].sort(1).values.unique(return_inverse=True)
        again = torch.zeros_like(place, dtype=torch.bool)
        again[:, 1:] = place[:, 1:] == place[:, :-1]
        self._words = names, place, again

    @property
    def _price(self) -> Float[Tensor, " p"]:
        return self._lengths @ torch.tensor([self.aim.part, self.aim.token])

    def run(self, leaves: int, keep: int) -> list[Found]:
        """The best rules of up to `leaves` parts by F-beta less price, at most `keep` of each number of parts."""
        beam, found = self._found([(None, torch.ones(len(self.drawn.rows)))]), []
        self._add_words(beam[0].mask)
        for level in range(leaves):
            grown = self._grow(beam, first=level == 0)
            if not grown:
                break
            if level == 0:
                self._add_words(self._ranked(grown)[0].mask)
            found += grown
            beam = self._kept([*beam, *grown] if level else grown)
        by_parts: dict[int, list[Found]] = {}
        for one in self._ranked(_distinct(found)):
            by_parts.setdefault(length(one.rule)[0] if one.rule else 0, []).append(one)
        return [one for some in by_parts.values() for one in some[:keep]]

    def _ranked(self, found: Sequence[Found]) -> list[Found]:
        return sorted(found, key=lambda one: one.price - self.aim.f(one.hits, one.alarms))

    def _kept(self, found: Sequence[Found]) -> list[Found]:
        """The best at each cost."""
        kept: dict[int, Found] = {}
        distinct = _distinct(found)
        for cost in COSTS:
            for one in sorted(distinct, key=lambda one: -one.worth(cost))[: self.beam]:
                kept[id(one)] = one
        return list(kept.values())

    def _found(self, made: Sequence[tuple[Predicate | None, Float[Tensor, " s"]]]) -> list[Found]:
        if not made:
            return []
        told = (self._told @ torch.stack([mask for _, mask in made], 1)).T.tolist()
        return [
            Found(rule, mask, hits, alarms, 0.0 if rule is None else self.aim.price(rule), name)
            for (rule, mask), (hits, alarms, name) in zip(made, told, strict=True)
        ]

    def _grow(self, beam: Sequence[Found], first: bool) -> list[Found]:
        """The most promising joins at each cost, made."""
        sides = torch.stack([one.mask for one in beam]) * self.drawn.weight[:, None]  # [2 q s]
        paid = torch.tensor([one.price for one in beam])
        room = None  # tokens that each rule may still list
        if self.aim.tokens is not None:
            room = self.aim.tokens - torch.tensor([0 if one.rule is None else length(one.rule)[1] for one in beam])
        moves = [*self._singles(sides, paid, room, first), *self._sets(sides, paid, room, first)]
        moves.sort(key=lambda move: -move.worth)
        chosen: dict[object, Move] = {}
        for cost in COSTS:
            chosen |= {move.name: move for move in [move for move in moves if move.cost == cost][: 2 * self.beam]}
        return _distinct(self._found([self._made(beam[move.number], move) for move in chosen.values()]))

    def _singles(
        self, sides: Float[Tensor, "2 q s"], paid: Float[Tensor, " q"], room: Int[Tensor, " q"] | None, first: bool
    ) -> Iterator[Move]:
        """The best joins with one candidate at each cost; those that change nothing are left out."""
        total, both_hold = sides.sum(2, keepdim=True), sides @ self._held
        price, long = self._price, False if room is None else self._lengths[:, 1] > room[:, None]
        scored = {"and": both_hold, "not": total - both_hold}
        if not first:
            scored["or"] = total + (self.drawn.weight @ self._held)[:, None] - both_hold
        for how, (hits, alarms) in scored.items():
            self.tried += hits.numel()
            same = ((hits - total[0]).abs() < 1e-6) & ((alarms - total[1]).abs() < 1e-6) | long
            for cost in COSTS:
                worth = torch.where(same, -torch.inf, hits - cost * alarms - paid[:, None] - price)
                best = worth.flatten().topk(min(self.beam, worth.numel()))
                for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                    number, column = divmod(place, worth.shape[1])
                    if value > -torch.inf:
                        yield Move(value, cost, (how, place), number, how, partial(self._candidate, column))

    def _sets(
        self, sides: Float[Tensor, "2 q s"], paid: Float[Tensor, " q"], room: Int[Tensor, " q"] | None, first: bool
    ) -> Iterator[Move]:
        """The best joins with a set of tokens at each cost: all worth naming, and at first also the best one and four."""
        q, total, cost = sides.shape[1], sides.sum(2), torch.tensor(COSTS)[:, None]
        flat = torch.cat([sides.flatten(0, 1), self.drawn.weight, (self.drawn.weight[:1] > 0).float()]).T.contiguous()
        for kind, back, place, names in self.drawn.fields:
            counts = torch.zeros(len(names), flat.shape[1]).index_add_(0, place, flat)
            inside, every = counts[:, : 2 * q].view(-1, 2, q), counts[:, 2 * q : -1, None]
            known = (names >= 0)[:, None]
            joins = {"and": (inside, known & (counts[:, -1:] >= 2))}
            if not first:
                joins |= {"not": (-inside, known), "or": (every - inside, joins["and"][1])}
            for how, (gained, allowed) in joins.items():
                self.tried += q
                gain = gained[:, 0] - cost[..., None] * gained[:, 1] - self.aim.token
                gain = torch.where(allowed, gain, 0).clamp_(min=0)  # [c v q]
                before = (0 * cost if how == "and" else total[0] - cost * total[1]) - paid - self.aim.part  # [c q]
                for at, number, size, value in self._best_sets(gain, before, room, (1, 4) if first else ()):
                    part = partial(self._set, kind, back, place, names, gain[at, :, number], size)
                    yield Move(value, COSTS[at], (how, kind, back, number, COSTS[at], size), number, how, part)

    def _best_sets(
        self, gain: Float[Tensor, "c v q"], before: Float[Tensor, "c q"], room: Int[Tensor, " q"] | None, few: Sequence[int]
    ) -> list[tuple[int, int, int, float]]:
        """(number of the cost, number of the rule, tokens, worth) of the best rules at each cost, joined with all tokens that
        gain, as far as there is room for them, or with a few."""
        size, sums = (gain > 0).sum(1), None  # [c q]
        if room is not None:
            size = torch.minimum(size, room.clamp(min=0))
        if few or room is not None:
            sums = pad(gain.topk(int(size.max()), 1).values.cumsum(1), (0, 0, 1, 0))  # [c t q]: of the t best tokens

        def worth(sizes: Tensor) -> Tensor:
            return before + (gain.sum(1) if sums is None else sums.gather(1, sizes[:, None])[:, 0])

        top = worth(size).topk(min(self.beam // 2, size.shape[1]), 1).indices.tolist()
        found = []
        for sizes in (*(size.clamp(max=one) for one in few), size):
            told = zip(top, sizes.tolist(), worth(sizes).tolist(), strict=True)
            found += [(at, n, many[n], value[n]) for at, (numbers, many, value) in enumerate(told) for n in numbers if many[n]]
        return list(dict.fromkeys(found))

    def _candidate(self, column: int) -> tuple[Predicate, Tensor]:
        return self._rules[column], self._held[:, column]

    def _set(
        self, kind: str, back: int, place: Tensor, names: Tensor, gain: Float[Tensor, " v"], size: int
    ) -> tuple[Predicate, Tensor]:
        chosen = gain.argsort(descending=True)[:size]
        tokens = tuple(dict.fromkeys(self.space.text.vocabulary[name] for name in names[chosen].tolist()))
        picked = torch.zeros(len(names)).index_fill_(0, chosen, 1.0)
        return TokenIn(tokens, back) if kind == "token" else LineBegins(tokens), picked[place]

    def _made(self, one: Found, move: Move) -> tuple[Predicate, Float[Tensor, " s"]]:
        part, held = move.part()
        if move.how == "or" and one.rule is not None:
            return either(one.rule, part), torch.maximum(one.mask, held)
        if move.how == "not":
            return both(one.rule, unless(part)), one.mask * (1 - held)
        return both(one.rule, part), one.mask * held

    def _add_words(self, mask: Float[Tensor, " s"], most: int = 8) -> None:
        """New candidates: words among the last few tokens that tell these rows apart where `mask` holds, and the best
        of them together."""
        names, place, again = self._words
        signed = mask * (self.drawn.weight[0] - COSTS[1] * self.drawn.weight[1])
        gain = torch.zeros(len(names)).index_add_(0, place.flatten(), torch.where(again, 0.0, signed[:, None]).flatten())
        gain[names < 0] = 0
        best = gain.abs().topk(min(most, len(gain))).indices
        found = [((place == i).any(1), (int(i),)) for i in best]
        worth = best[gain[best] > self.aim.part]
        if len(worth) > 1:
            found.append((torch.isin(place, worth).any(1), tuple(worth.tolist())))
        columns: list[Tensor] = []
        for held, chosen in found:
            tokens = tuple(dict.fromkeys(self.space.text.vocabulary[names[i]] for i in chosen))
            self._rules.append(Earlier(tokens, WINDOW))
            columns.append(held.float())
        self._held = torch.cat([self._held, torch.stack(columns, 1)], 1)
        added = torch.tensor([length(rule) for rule in self._rules[-len(columns) :]], dtype=torch.float)
        self._lengths = torch.cat([self._lengths, added])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Many small products run faster on one thread than on two; what was set before is set again."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _distinct(found: Sequence[Found]) -> list[Found]:
    """Of rules that hold at the same rows the cheapest, cheapest first."""
    kept: dict[float, Found] = {}
    for one in sorted(found, key=lambda one: one.price):
        kept.setdefault(one.name, one)
    return list(kept.values())
