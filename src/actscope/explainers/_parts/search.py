"""A greedy beam search for the rule that best tells one latent's active contexts from its inactive ones.

Every context carries a signed weight: active ones share +1/2, inactive ones -1/2. The balanced accuracy of a rule is then
1/2 + the sum of the weights where it holds, which is linear: one matrix product scores "and", "and not" and "or" with
every candidate, and the best set of tokens is simply those whose weights sum above the price of naming them. A false alarm
may weigh more than a miss (`Aim`); it stays linear.
Letters: s contexts, p candidates, q rules in the beam, v tokens.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from actscope.core.predicate import Earlier, LineBegins, Predicate, TokenIn
from actscope.core.text import TokenText
from actscope.explainers._parts.candidates import candidates, fields, table
from actscope.explainers._parts.compose import both, either, length, unless
from actscope.scores._parts.reading import Contexts

WINDOW = 8  # tokens back in which words of the latent's own contexts are looked for


@dataclass(frozen=True)
class Aim:
    """What the search maximises: 1/2 + (recall - (1 - hard) * alarm * false alarms at random tokens - hard * false alarms
    at tokens that active contexts have) / 2, less the price of the rule's length. With hard=0 and alarm=1 that is the
    balanced accuracy."""

    hard: float = 0.25
    alarm: float = 1.0
    part: float = 0.01
    token: float = 0.001

    def price(self, rule: Predicate) -> float:
        parts, tokens = length(rule)
        return self.part * parts + self.token * tokens

    def weights(self, drawn: Contexts) -> Float[Tensor, " s"]:
        """Signed weights of active, random and hard contexts, in this order. Fewer than a tenth as many hard ones as
        random ones weigh nothing."""
        hard = self.hard if 10 * len(drawn.hard) >= len(drawn.random) else 0.0
        sides = ((drawn.active, 0.5), (drawn.random, -0.5 * (1 - hard) * self.alarm), (drawn.hard, -0.5 * hard))
        return torch.cat([torch.full((len(rows),), share / max(1, len(rows))) for rows, share in sides])

    def worth(self, holds: Bool[Tensor, " n"], drawn: Contexts) -> float:
        """What is maximised, before the price, for a rule on any contexts."""
        return 0.5 + float(holds[drawn.rows].float() @ self.weights(drawn))


@dataclass(frozen=True)
class Found:
    """A rule with where it holds among the contexts, and its balanced accuracy there less its price."""

    rule: Predicate | None
    mask: Float[Tensor, " s"]
    worth: float


@dataclass(frozen=True)
class Move:
    """A rule of the beam joined with one more part, scored but not yet built."""

    worth: float  # with the price of both, which joining can only lower
    number: int  # in the beam
    how: str  # "and", "not", "or"
    part: Callable[[], tuple[Predicate, Tensor]]  # the part, and where it holds among the contexts


@dataclass(frozen=True)
class Space:
    """All that can be said of one reading's text: candidates with where they hold, and fields with their tokens."""

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


@dataclass
class Search:
    """One latent's search. `tried` counts the rules that were scored."""

    space: Space
    rows: Int[Tensor, " s"]
    weight: Float[Tensor, " s"]
    aim: Aim
    beam: int
    tried: int = 0
    _held: Float[Tensor, "s p"] = field(init=False)
    _rules: list[Predicate] = field(init=False)
    _cost: Float[Tensor, " p"] = field(init=False)
    _fields: list[tuple[str, int, Tensor, Tensor]] = field(init=False)  # rule, back, place among the ids, ids

    def __post_init__(self):
        self._held = self.space.held[self.rows].float()
        self._rules = list(self.space.rules)
        self._cost = self.space.lengths @ torch.tensor([self.aim.part, self.aim.token])
        self._fields = []
        for kind, back, ids in self.space.fields:
            names, place = ids[self.rows].unique(return_inverse=True)
            self._fields.append((kind, back, place, names))

    @staticmethod
    def over(space: Space, drawn: Contexts, *, aim: Aim, beam: int) -> "Search":
        return Search(space, drawn.rows, aim.weights(drawn), aim, beam)

    def run(self, leaves: int, keep: int) -> list[Found]:
        """The best rules of up to `leaves` parts, best first, at most `keep` of each number of parts."""
        everywhere = Found(None, torch.ones_like(self.weight), 0.5)
        self._add_words(everywhere.mask)
        beam, found = [everywhere], []
        for level in range(leaves):
            grown = self._grow(beam, first=level == 0)
            if not grown:
                break
            if level == 0:
                self._add_words(grown[0].mask)
            found += grown[:keep]
            beam = _distinct([*beam, *grown] if level else grown)[: self.beam]
        return _distinct(found)

    def _grow(self, beam: list[Found], first: bool) -> list[Found]:
        masks = torch.stack([one.mask for one in beam])
        inside, outside = masks * self.weight, (1 - masks) * self.weight
        paid = torch.tensor([0.0 if one.rule is None else self.aim.price(one.rule) for one in beam])
        moves = [*self._singles(inside, outside, paid, first), *self._sets(masks, inside, outside, paid, first)]
        moves = sorted(moves, key=lambda move: -move.worth)[: 3 * self.beam]
        return _distinct([self._made(beam[move.number], move) for move in moves])

    def _singles(self, inside: Tensor, outside: Tensor, paid: Tensor, first: bool) -> Iterator[Move]:
        """The best joins with one candidate; those that change nothing are left out."""
        total = inside.sum(1, keepdim=True)
        gains = {"and": inside @ self._held}
        gains["not"] = total - gains["and"]
        if not first:
            gains["or"] = total + outside @ self._held
        for how, gain in gains.items():
            self.tried += gain.numel()
            worth = 0.5 + gain - paid[:, None] - self._cost
            worth[(gain - total).abs() < 1e-6] = -torch.inf
            best = worth.flatten().topk(min(2 * self.beam, worth.numel()))
            for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                if value > -1:
                    number, column = divmod(place, worth.shape[1])
                    yield Move(value, number, how, partial(self._candidate, column))

    def _sets(self, masks: Tensor, inside: Tensor, outside: Tensor, paid: Tensor, first: bool) -> Iterator[Move]:
        """The best joins with a set of tokens: all tokens worth naming, and at first also the best one and four."""
        hows = ("and",) if first else ("and", "not", "or")
        active = (self.weight > 0).float()
        signed = torch.cat([inside, -inside, outside][: len(hows)]).T.contiguous()
        seen = torch.cat([masks * active, masks * (1 - active), (1 - masks) * active][: len(hows)]).T.contiguous()
        total = inside.sum(1)
        start = torch.cat([torch.zeros_like(total), total, total][: len(hows)]) - paid.repeat(len(hows)) + 0.5
        for kind, back, place, names in self._fields:
            gain = torch.zeros(len(names), signed.shape[1]).index_add_(0, place, signed)
            count = torch.zeros(len(names), signed.shape[1]).index_add_(0, place, seen)
            worthy = torch.where((count >= 2) & (names >= 0)[:, None], gain - self.aim.token, 0).clamp(min=0)
            self.tried += signed.shape[1]
            for column, found in enumerate((worthy > 0).sum(0).tolist()):
                order = worthy[:, column].topk(found).indices
                for size in {1, min(4, found), found} - {0} if first else {found} - {0}:
                    worth = float(start[column] + worthy[order[:size], column].sum()) - self.aim.part
                    part = partial(self._set, kind, back, place, names, order[:size])
                    yield Move(worth, column % len(masks), hows[column // len(masks)], part)

    def _candidate(self, column: int) -> tuple[Predicate, Tensor]:
        return self._rules[column], self._held[:, column]

    def _set(self, kind: str, back: int, place: Tensor, names: Tensor, chosen: Tensor) -> tuple[Predicate, Tensor]:
        tokens = tuple(dict.fromkeys(self.space.text.vocabulary[name] for name in names[chosen].tolist()))
        picked = torch.zeros(len(names)).index_fill_(0, chosen, 1.0)
        return TokenIn(tokens, back) if kind == "token" else LineBegins(tokens), picked[place]

    def _made(self, one: Found, move: Move) -> Found:
        part, held = move.part()
        if move.how == "or" and one.rule is not None:
            rule, mask = either(one.rule, part), torch.maximum(one.mask, held)
        elif move.how == "not":
            rule, mask = both(one.rule, unless(part)), one.mask * (1 - held)
        else:
            rule, mask = both(one.rule, part), one.mask * held
        return Found(rule, mask, 0.5 + float(mask @ self.weight) - self.aim.price(rule))

    def _add_words(self, mask: Float[Tensor, " s"], most: int = 8) -> None:
        """New candidates: words among the last few tokens that tell these contexts apart where `mask` holds, and the best
        of them together."""
        names, place = self.space.window[self.rows].sort(1).values.unique(return_inverse=True)
        again = torch.zeros_like(place, dtype=torch.bool)
        again[:, 1:] = place[:, 1:] == place[:, :-1]
        signed = torch.where(again, 0.0, (mask * self.weight)[:, None])
        gain = torch.zeros(len(names)).index_add_(0, place.flatten(), signed.flatten())
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
        self._cost = torch.cat([self._cost, torch.tensor([self.aim.price(rule) for rule in self._rules[-len(columns) :]])])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Many small products run faster on one thread than on two; what was set before is set again."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _distinct(found: list[Found]) -> list[Found]:
    """Best first; of rules that hold at the same contexts only the best."""
    if not found:
        return []
    mixed = torch.rand(len(found[0].mask), generator=torch.Generator().manual_seed(0))
    names = (torch.stack([one.mask for one in found]) @ mixed).tolist()
    kept: dict[float, Found] = {}
    for name, one in sorted(zip(names, found, strict=True), key=lambda pair: -pair[1].worth):
        kept.setdefault(round(name, 3), one)
    return list(kept.values())
