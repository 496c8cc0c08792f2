"""A greedy beam search for the rule that best tells one latent's active contexts from its inactive ones.

Every context carries a signed weight: active ones share +1/2, inactive ones -1/2. The balanced accuracy of a rule is then
1/2 + the sum of the weights where it holds, which is linear: one matrix product scores "and", "and not" and "or" with
every candidate, and the best set of tokens is simply those whose weights sum above the price of naming them.
Letters: s contexts, p candidates, q rules in the beam, v tokens.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

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
class Price:
    """What a longer rule must gain in balanced accuracy."""

    part: float = 0.01
    token: float = 0.001

    def of(self, rule: Predicate) -> float:
        parts, tokens = length(rule)
        return self.part * parts + self.token * tokens


@dataclass(frozen=True)
class Found:
    """A rule with where it holds among the contexts, and its balanced accuracy there less its price."""

    rule: Predicate | None
    mask: Float[Tensor, " s"]
    worth: float


@dataclass(frozen=True)
class Space:
    """All that can be said of one reading's text: candidates with where they hold, and fields with their tokens."""

    text: TokenText
    rules: list[Predicate]
    held: UInt8[Tensor, "n p"]
    fields: list[tuple[str, int, Int[Tensor, " n"]]]
    window: Int[Tensor, "n w"]  # the ids of the last tokens

    @staticmethod
    def of(text: TokenText) -> "Space":
        rules = candidates(text)
        window = torch.stack([text.earlier(back) for back in range(1, WINDOW + 1)], 1)
        return Space(text, rules, table(rules, text), fields(text), window)


@dataclass
class Search:
    """One latent's search. `tried` counts the rules that were scored."""

    space: Space
    rows: Int[Tensor, " s"]
    weight: Float[Tensor, " s"]
    price: Price
    beam: int
    tried: int = 0
    _held: Float[Tensor, "s p"] = field(init=False)
    _rules: list[Predicate] = field(init=False)
    _fields: list[tuple[str, int, Tensor, Tensor]] = field(init=False)  # rule, back, place among the ids, ids

    def __post_init__(self):
        self._held = self.space.held[self.rows].float()
        self._rules = list(self.space.rules)
        self._fields = []
        for kind, back, ids in self.space.fields:
            names, place = ids[self.rows].unique(return_inverse=True)
            self._fields.append((kind, back, place, names))

    @staticmethod
    def over(space: Space, drawn: Contexts, *, hard: float, price: Price, beam: int) -> "Search":
        rows = torch.cat([drawn.active, drawn.random, drawn.hard])
        return Search(space, rows, weights(drawn, hard), price, beam)

    def run(self, leaves: int, keep: int) -> list[Found]:
        """The best rules of up to `leaves` parts, best first, at most `keep` of each number of parts."""
        everywhere = Found(None, torch.ones_like(self.weight), 0.5)
        self._add_words(everywhere.mask)
        beam, found = [everywhere], []
        for level in range(leaves):
            grown = _distinct(self._grow(beam))
            if level == 0:
                self._add_words(grown[0].mask)
            found += grown[:keep]
            beam = _distinct([*beam[: self.beam], *grown])[: self.beam] if level else grown[: self.beam]
        return sorted(_distinct(found), key=lambda one: -one.worth)

    def _grow(self, beam: list[Found]) -> list[Found]:
        masks = torch.stack([one.mask for one in beam])
        first = beam[0].rule is None
        inside, outside = masks * self.weight, (1 - masks) * self.weight
        total = inside.sum(1, keepdim=True)
        gains = {"and": inside @ self._held, "or": total + outside @ self._held}
        gains["not"] = total - gains["and"]
        if first:
            del gains["or"]
        grown = []
        for how, gain in gains.items():
            self.tried += gain.numel()
            for number, best in enumerate(gain.topk(min(self.beam, gain.shape[1]), dim=1).indices.tolist()):
                for place in best:
                    part = self._rules[place]
                    grown.append(self._join(beam[number], how, part, self._held[:, place]))
        for number, one in enumerate(beam):
            grown += self._sets(one, inside[number], outside[number], first)
        return [one for one in grown if one is not None]

    def _sets(self, one: Found, inside: Tensor, outside: Tensor, first: bool) -> Iterator[Found]:
        """The rule joined with the best set of tokens of each field."""
        active = (self.weight > 0).float()
        for kind, back, place, names in self._fields:
            for how, signed, base in (("and", inside, one.mask), ("not", -inside, one.mask), ("or", outside, 1 - one.mask)):
                if first and how != "and":
                    continue
                gain = torch.zeros(len(names)).index_add_(0, place, signed)
                count = torch.zeros(len(names)).index_add_(0, place, base * (active if how != "not" else 1 - active))
                chosen = (gain > self.price.token) & (count >= 2) & (names >= 0)
                self.tried += 1
                if not chosen.any():
                    continue
                order = chosen.nonzero()[:, 0]
                order = order[gain[order].argsort(descending=True)]
                for size in {1, 4, len(order)} if first else {len(order)}:
                    picked = torch.zeros_like(chosen)
                    picked[order[:size]] = True
                    tokens = tuple(dict.fromkeys(self.space.text.vocabulary[names[i]] for i in order[:size].tolist()))
                    part = TokenIn(tokens, back) if kind == "token" else LineBegins(tokens)
                    joined = self._join(one, how, part, picked[place].float())
                    if joined is not None:
                        yield joined

    def _join(self, one: Found, how: str, part: Predicate, held: Tensor) -> Found | None:
        if how == "or" and one.rule is not None:
            rule, mask = either(one.rule, part), torch.maximum(one.mask, held)
        elif how == "not":
            rule, mask = both(one.rule, unless(part)), one.mask * (1 - held)
        else:
            rule, mask = both(one.rule, part), one.mask * held
        return Found(rule, mask, 0.5 + float(mask @ self.weight) - self.price.of(rule))

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
        worth = best[gain[best] > self.price.part]
        if len(worth) > 1:
            found.append((torch.isin(place, worth).any(1), tuple(worth.tolist())))
        for held, chosen in found:
            tokens = tuple(dict.fromkeys(self.space.text.vocabulary[names[i]] for i in chosen))
            self._rules.append(Earlier(tokens, WINDOW))
            self._held = torch.cat([self._held, held.float()[:, None]], 1)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Many small products run faster on one thread than on two; what was set before is set again."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def weights(drawn: Contexts, hard: float) -> Float[Tensor, " s"]:
    """Signed weights of active, random and hard contexts; `hard` is the share of the inactive side that hard ones have,
    none where there are fewer than a tenth as many as random ones."""
    hard = hard if 10 * len(drawn.hard) >= len(drawn.random) else 0.0
    sides = ((drawn.active, 0.5), (drawn.random, -0.5 * (1 - hard)), (drawn.hard, -0.5 * hard))
    return torch.cat([torch.full((len(rows),), share / max(1, len(rows))) for rows, share in sides])


def worth(holds: Bool[Tensor, " n"], drawn: Contexts, hard: float) -> float:
    """What `Search` maximises, before the price, for a rule on other contexts."""
    rows = torch.cat([drawn.active, drawn.random, drawn.hard])
    return 0.5 + float(holds[rows].float() @ weights(drawn, hard))


def _distinct(found: list[Found]) -> list[Found]:
    """Best first; of rules that hold at the same contexts only the best."""
    kept: dict[tuple[float, int], Found] = {}
    for one in sorted(found, key=lambda one: -one.worth):
        kept.setdefault((round(one.worth, 6), hash(tuple(one.mask.nonzero()[:64, 0].tolist()))), one)
    return list(kept.values())
