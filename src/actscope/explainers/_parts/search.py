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

from actscope.core.predicate import Earlier, LineBegins, Predicate, TokenIn
from actscope.core.text import TokenText
from actscope.explainers._parts.candidates import candidates, fields, table
from actscope.explainers._parts.compose import both, either, length, unless

WINDOW = 8  # tokens back in which words of the latent's own contexts are looked for
COSTS = (0.02, 0.08, 0.3)  # of a false alarm, in hits


@dataclass(frozen=True)
class Aim:
    """What the search maximises: F-beta at the frequency of the text, less the price of the rule's length."""

    beta: float = 2.0
    part: float = 0.02
    token: float = 0.003

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
    """Rows of a target, and what each counts for: as a hit, as a false alarm; both in shares of the target's active rows."""

    rows: Int[Tensor, " s"]
    weight: Float[Tensor, "2 s"]


class Found(NamedTuple):
    """A rule, where it holds among the rows drawn, its recall, its false alarms an activation, and its price."""

    rule: Predicate | None
    mask: Float[Tensor, " s"]
    hits: float
    alarms: float
    price: float

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
    window: Int[Tensor, "n w"]  # the ids of the last tokens

    @staticmethod
    def of(text: TokenText) -> "Space":
        rules = candidates(text)
        window = torch.stack([text.earlier(back) for back in range(1, WINDOW + 1)], 1)
        lengths = torch.tensor([length(rule) for rule in rules], dtype=torch.float)
        return Space(text, rules, table(rules, text), lengths, fields(text), window)

    def draw(self, target: Target, *, most: int, seed: int) -> Drawn:
        """Up to `most` active rows, and about as many silent ones at random and twice as many where a token that active
        rows have, or have before them, makes a false alarm likely; each weighs one over its chance of being drawn."""
        generator = torch.Generator().manual_seed(seed)
        size, suspect = len(self.text.vocabulary) + 1, torch.zeros(len(self.text))
        for _, _, ids in self.fields:
            share = torch.bincount(ids[target.active] + 1, minlength=size) / torch.bincount(ids + 1, minlength=size).clamp(
                min=1
            )
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
        return Drawn(rows, weight)


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
    _price: Float[Tensor, " p"] = field(init=False)
    _fields: list[tuple[str, int, Tensor, Tensor]] = field(init=False)  # rule, back, place among the ids, ids

    def __post_init__(self):
        self._held = self.space.held[self.drawn.rows].float()
        self._rules = list(self.space.rules)
        self._price = self.space.lengths @ torch.tensor([self.aim.part, self.aim.token])
        self._fields = []
        for kind, back, ids in self.space.fields:
            names, place = ids[self.drawn.rows].unique(return_inverse=True)
            self._fields.append((kind, back, place, names))

    def run(self, leaves: int, keep: int) -> list[Found]:
        """The best rules of up to `leaves` parts by F-beta less price, at most `keep` of each number of parts."""
        beam, found = [self._found(None, torch.ones(len(self.drawn.rows)))], []
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
        for cost in COSTS:
            for one in sorted(_distinct(found), key=lambda one: -one.worth(cost))[: self.beam]:
                kept[id(one)] = one
        return list(kept.values())

    def _found(self, rule: Predicate | None, mask: Float[Tensor, " s"]) -> Found:
        hits, alarms = (self.drawn.weight @ mask).tolist()
        return Found(rule, mask, hits, alarms, 0.0 if rule is None else self.aim.price(rule))

    def _grow(self, beam: Sequence[Found], first: bool) -> list[Found]:
        """The most promising joins at each cost, made."""
        sides = torch.stack([one.mask for one in beam]) * self.drawn.weight[:, None]  # [2 q s]
        paid = torch.tensor([one.price for one in beam])
        moves = sorted([*self._singles(sides, paid, first), *self._sets(sides, paid, first)], key=lambda move: -move.worth)
        chosen: dict[object, Move] = {}
        for cost in COSTS:
            chosen |= {move.name: move for move in [move for move in moves if move.cost == cost][: 2 * self.beam]}
        return _distinct([self._made(beam[move.number], move) for move in chosen.values()])

    def _singles(self, sides: Float[Tensor, "2 q s"], paid: Float[Tensor, " q"], first: bool) -> Iterator[Move]:
        """The best joins with one candidate at each cost; those that change nothing are left out."""
        total, both_hold = sides.sum(2, keepdim=True), sides @ self._held
        scored = {"and": both_hold, "not": total - both_hold}
        if not first:
            scored["or"] = total + (self.drawn.weight @ self._held)[:, None] - both_hold
        for how, (hits, alarms) in scored.items():
            self.tried += hits.numel()
            same = ((hits - total[0]).abs() < 1e-6) & ((alarms - total[1]).abs() < 1e-6)
            for cost in COSTS:
                worth = torch.where(same, -torch.inf, hits - cost * alarms - paid[:, None] - self._price)
                best = worth.flatten().topk(min(self.beam, worth.numel()))
                for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                    number, column = divmod(place, worth.shape[1])
                    if value > -torch.inf:
                        yield Move(value, cost, (how, place), number, how, partial(self._candidate, column))

    def _sets(self, sides: Float[Tensor, "2 q s"], paid: Float[Tensor, " q"], first: bool) -> Iterator[Move]:
        """The best joins with a set of tokens at each cost: all worth naming, and at first also the best one and four."""
        q, total = sides.shape[1], sides.sum(2)
        flat = torch.cat([sides.flatten(0, 1), self.drawn.weight, (self.drawn.weight[:1] > 0).float()]).T.contiguous()
        for kind, back, place, names in self._fields:
            counts = torch.zeros(len(names), flat.shape[1]).index_add_(0, place, flat)
            inside, every = counts[:, : 2 * q].view(-1, 2, q), counts[:, 2 * q : -1, None]
            known = (names >= 0)[:, None]
            joins = {"and": (inside, known & (counts[:, -1:] >= 2))}
            if not first:
                joins |= {"not": (-inside, known), "or": (every - inside, joins["and"][1])}
            for how, (gained, allowed) in joins.items():
                self.tried += q
                for cost in COSTS:
                    gain = torch.where(allowed, gained[:, 0] - cost * gained[:, 1] - self.aim.token, 0).clamp(min=0)  # [v q]
                    before = (0 if how == "and" else total[0] - cost * total[1]) - paid - self.aim.part
                    worth = before + gain.sum(0)
                    for number in worth.topk(min(self.beam // 2, q)).indices.tolist():
                        order = gain[:, number].argsort(descending=True)[: int((gain[:, number] > 0).sum())]
                        for size in {min(1, len(order)), min(4, len(order)), len(order)} - {0} if first else {len(order)} - {0}:
                            value = float(before[number] + gain[order[:size], number].sum())
                            part = partial(self._set, kind, back, place, names, order[:size])
                            yield Move(value, cost, (how, kind, back, number, cost, size), number, how, part)

    def _candidate(self, column: int) -> tuple[Predicate, Tensor]:
        return self._rules[column], self._held[:, column]

    def _set(self, kind: str, back: int, place: Tensor, names: Tensor, chosen: Tensor) -> tuple[Predicate, Tensor]:
        tokens = tuple(dict.fromkeys(self.space.text.vocabulary[name] for name in names[chosen].tolist()))
        picked = torch.zeros(len(names)).index_fill_(0, chosen, 1.0)
        return TokenIn(tokens, back) if kind == "token" else LineBegins(tokens), picked[place]

    def _made(self, one: Found, move: Move) -> Found:
        part, held = move.part()
        if move.how == "or" and one.rule is not None:
            return self._found(either(one.rule, part), torch.maximum(one.mask, held))
        if move.how == "not":
            return self._found(both(one.rule, unless(part)), one.mask * (1 - held))
        return self._found(both(one.rule, part), one.mask * held)

    def _add_words(self, mask: Float[Tensor, " s"], most: int = 8) -> None:
        """New candidates: words among the last few tokens that tell these rows apart where `mask` holds, and the best
        of them together."""
        names, place = self.space.window[self.drawn.rows].sort(1).values.unique(return_inverse=True)
        again = torch.zeros_like(place, dtype=torch.bool)
        again[:, 1:] = place[:, 1:] == place[:, :-1]
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
        self._price = torch.cat([self._price, torch.tensor([self.aim.price(rule) for rule in self._rules[-len(columns) :]])])


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
    if not found:
        return []
    mixed = torch.rand(len(found[0].mask), generator=torch.Generator().manual_seed(0))
    names = (torch.stack([one.mask for one in found]) @ mixed).tolist()
    kept: dict[float, Found] = {}
    for name, one in sorted(zip(names, found, strict=True), key=lambda pair: pair[1].price):
        kept.setdefault(round(name, 3), one)
    return list(kept.values())
