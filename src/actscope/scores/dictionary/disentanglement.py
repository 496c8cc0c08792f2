"""Do latents hold one attribute of an entity apart from its others? RAVEL of Huang et al. 2024 (arXiv:2402.17700), which
SAEBench takes up (Karvonen et al. 2025, arXiv:2503.09532).

    1. Each example of an attribute gives a base (its prompt) and a source (its twin), which differ in an entity; the place is
       the last token where they do. Kept are those that the model answers right, and whose twin it answers otherwise.
    2. An attribute's latents are exchanged at that place: each takes the value it has in the source; everything else, what the
       dictionary misses included, stays the base's.
    3. Cause: the share of the attribute's own pairs where the model now says what it says of the source. Isolation: the share
       of the other attributes' pairs where exchanging these latents leaves what the model says. Their mean is the score.
    4. Latents are ordered on half of the pairs by attribution: what a latent's exchange does to the logit of the source's
       answer less the base's, by gradients along the way from base to source (Sundararajan et al. 2017), mean over own pairs,
       less the magnitude of the same over others' pairs. How many are exchanged is the number with the best score on that half.
       The other half is reported.

Exchanging nothing scores one half. SAEBench learns a mask by gradient and drops what the dictionary misses, which mixes in how
well it rebuilds. For the paper's question, examples of all attributes must ask about the same entities.
Letters: p pairs, t tokens, d width, m latents, s latents exchanged, a attributes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted, WrongSubject
from actscope.core.inputs import Inputs
from actscope.core.intervention import Add
from actscope.core.progress import stop_requested
from actscope.core.score import Score
from actscope.core.subject import Subject
from actscope.core.task import Example
from actscope.scores._parts.totals import mean_of_ratios, totals_interval

__all__ = ["disentanglement"]

_AT_ONCE = 64  # prompts
_STEPS = 5  # on the way from base to source


def disentanglement(
    dictionary: Dictionary,
    subject: Subject,
    attributes: Mapping[str, Sequence[Example]],
    *,
    sizes: Sequence[int] = (1, 2, 5, 10, 20, 50, 100, 200, 500),
    draws: int = 5,
    least: int = 20,
    seed: int = 0,
) -> Score:
    """The mean over attributes of cause and isolation, when the latents chosen for each are exchanged (Huang et al. 2024,
    arXiv:2402.17700).

    attributes: name -> examples with a corrupted twin that differs in the entity. sizes: how many latents may be exchanged. At
    least `least` pairs of each must be left. parts: cause, isolation (means), full_cause, full_isolation (the whole vector
    exchanged: what the place allows), and per attribute "cause:", "isolation:", "latents:", "pairs:".
    control: as many latents, drawn `draws` times an attribute from those whose value changes. n: pairs reported. Interval:
    bootstrap over pairs. Raises BadInput for fewer than two attributes, or too few pairs that the model answers; WrongSubject.
    """
    if dictionary.subject and dictionary.subject != subject.fingerprint:
        raise WrongSubject(f"The dictionary was not trained on {subject.name}; give the subject it was trained on.")
    if len(attributes) < 2:
        raise BadInput(f"{len(attributes)} attribute given; what is told apart is one from another, so give at least two.")
    pairs = {name: _pairs(dictionary, subject, examples) for name, examples in attributes.items()}
    for name, found in pairs.items():
        if len(found) < 2 * least:
            raise BadInput(
                f"{len(found)} pairs of {name!r} are answered by {subject.name}; expected {2 * least}. Give more examples."
            )
    generator = torch.Generator().manual_seed(seed)
    order = {name: torch.randperm(len(found), generator=generator) for name, found in pairs.items()}
    fit = {name: found.at(order[name][: len(found) // 2]) for name, found in pairs.items()}
    hold = {name: found.at(order[name][len(found) // 2 :]) for name, found in pairs.items()}
    swap = _Swap(dictionary, subject)
    pull = {name: swap.attribution(found) for name, found in fit.items()}
    chosen, controls, judged, full = {}, [], {}, {}
    for name in attributes:
        others = torch.stack([one.abs().mean(0) for other, one in pull.items() if other != name]).mean(0)
        ranked = (pull[name].mean(0) - others).argsort(descending=True, stable=True)
        tried = {size: _balance(swap.judge(fit, name, ranked[:size])) for size in sizes}
        chosen[name] = ranked[: max(tried, key=tried.__getitem__)]
        judged[name], full[name] = swap.judge(hold, name, chosen[name]), swap.judge(hold, name, None)
        moves = torch.cat([one.change for one in hold.values()]).ne(0).any(0)
        moves[chosen[name]] = False
        pool = moves.nonzero()[:, 0]
        for _ in range(draws):
            drawn = pool[torch.randperm(len(pool), generator=generator)[: len(chosen[name])]]
            controls.append(_balance(swap.judge(hold, name, drawn)))
    return _score(hold, chosen, judged, full, sum(controls) / len(controls), seed)


@dataclass(frozen=True)
class _Pairs:
    """Prompts and what changes at their entity when it becomes the twin's."""

    prompts: tuple[str, ...]
    place: Int[Tensor, " p"]
    base: Int[Tensor, " p"]  # token the model says of the prompt
    source: Int[Tensor, " p"]  # and of the twin
    change: Float[Tensor, "p m"]  # of the codes
    vector: Float[Tensor, "p d"]  # of what stands at the port written

    def __len__(self) -> int:
        return len(self.place)

    def at(self, rows: Int[Tensor, " k"]) -> "_Pairs":
        prompts = tuple(self.prompts[row] for row in rows.tolist())
        return _Pairs(prompts, *(x[rows] for x in (self.place, self.base, self.source, self.change, self.vector)))


@torch.no_grad()
def _pairs(dictionary: Dictionary, subject: Subject, examples: Sequence[Example]) -> _Pairs:
    """Step 1."""
    with_twin = [one for one in examples if one.corrupted and one.corrupted != one.prompt]
    if not with_twin:
        raise BadInput("No example has a corrupted twin, which is where the other entity comes from; give examples with one.")
    base = _Read.of(dictionary, subject, [one.prompt for one in with_twin])
    source = _Read.of(dictionary, subject, [one.corrupted for one in with_twin])
    answers = [{token for text in one.answers for token in _first(subject, one.prompt, text)} for one in with_twin]
    rows, places, twins = [], [], []
    for row, (mine, yours) in enumerate(zip(base.ids, source.ids, strict=True)):
        same = 0
        while same < min(len(mine), len(yours)) and mine[-1 - same] == yours[-1 - same]:
            same += 1
        known = int(base.says[row]) in answers[row] and base.says[row] != source.says[row]
        if known and same < min(len(mine), len(yours)):
            rows.append(row)
            places.append(len(mine) - 1 - same)
            twins.append(len(yours) - 1 - same)
    index, place, twin = (torch.tensor(x, dtype=torch.long) for x in (rows, places, twins))
    before, after = base.codes(dictionary, index, place), source.codes(dictionary, index, twin)
    vector = source.written[index, twin] - base.written[index, place]
    prompts = tuple(with_twin[row].prompt for row in rows)
    return _Pairs(prompts, place, base.says[index], source.says[index], after - before, vector)


def _first(subject: Subject, prompt: str, answer: str) -> list[int]:
    """The token that follows the prompt when the answer does."""
    ids, mask = _tokens(subject.prepare([prompt, prompt + answer]))
    return [int(ids[1, int(mask[0].sum())])] if int(mask[1].sum()) > int(mask[0].sum()) else []


def _tokens(inputs: Inputs) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
    assert inputs.ids is not None
    return inputs.ids, torch.ones_like(inputs.ids, dtype=torch.bool) if inputs.mask is None else inputs.mask.bool()


@dataclass(frozen=True)
class _Read:
    """What stands in some prompts."""

    ids: list[list[int]]
    says: Int[Tensor, " b"]
    read: dict
    written: Float[Tensor, "b t d"]

    @staticmethod
    def of(dictionary: Dictionary, subject: Subject, texts: Sequence[str]) -> "_Read":
        inputs = subject.prepare(list(texts))
        ids, mask = _tokens(inputs)
        run = subject.run(inputs, read=["logits", *(port.site for port in dictionary.ports)])
        assert run.logits is not None
        last = run.logits[torch.arange(len(ids)), mask.sum(1) - 1].argmax(1).cpu()
        acts = {port: run.acts[port.site].flatten(2).float().cpu() for port in dictionary.ports}
        rows = [row[real].tolist() for row, real in zip(ids, mask, strict=True)]
        return _Read(rows, last, acts, acts[dictionary.write])

    def codes(self, dictionary: Dictionary, rows: Int[Tensor, " p"], place: Int[Tensor, " p"]) -> Float[Tensor, "p m"]:
        return dictionary.encode({port: self.read[port][rows, place] for port in dictionary.reads}).dense().float()


@dataclass(frozen=True)
class _Swap:
    """Runs prompts with something added at their entity."""

    dictionary: Dictionary
    subject: Subject

    @property
    def atoms(self) -> Float[Tensor, "m d"]:
        return self.dictionary.atoms[self.dictionary.write].detach().float()

    def judge(self, pairs: Mapping[str, _Pairs], name: str, latents: Int[Tensor, " s"] | None) -> Float[Tensor, "p 2"]:
        """Of every pair of every attribute, in order: did what was to happen happen; is it of this attribute. None: the whole
        vector is exchanged."""
        lines = []
        for other, one in pairs.items():
            added = one.vector if latents is None else one.change[:, latents] @ self.atoms[latents]
            says = torch.cat([logits.argmax(1) for logits in self._run(one, added)])
            right = says == (one.source if other == name else one.base)
            lines.append(torch.stack([right, torch.full_like(right, other == name)], dim=1))
        return torch.cat(lines).double()

    def attribution(self, pairs: _Pairs) -> Float[Tensor, "p m"]:
        """Step 4: of every latent's exchange."""
        slope = torch.zeros_like(pairs.vector)
        for step in range(_STEPS):
            added = ((step + 0.5) / _STEPS * pairs.vector).requires_grad_()
            with torch.enable_grad():
                logits = torch.cat(list(self._run(pairs, added, grad=True)))
                (logits.gather(1, pairs.source[:, None]) - logits.gather(1, pairs.base[:, None])).sum().backward()
            assert added.grad is not None
            slope += added.grad / _STEPS
        return pairs.change * (slope @ self.atoms.T)

    def _run(self, pairs: _Pairs, added: Float[Tensor, "p d"], *, grad: bool = False) -> Iterator[Float[Tensor, "b vocab"]]:
        """Logits after every prompt, some prompts at a time."""
        site = self.dictionary.write.site
        for start in range(0, len(pairs), _AT_ONCE):
            if stop_requested():
                raise Interrupted("Stopped while scoring; nothing was to be saved. Run the same command again.")
            here = slice(start, start + _AT_ONCE)
            inputs = self.subject.prepare(list(pairs.prompts[here]))
            ids, mask = _tokens(inputs)
            rows, shape = torch.arange(len(ids)), self.subject.sites[site].shape[2:]
            value = torch.zeros(*ids.shape, added.shape[1]).index_put((rows, pairs.place[here]), added[here])
            value = value.unflatten(2, [int(size) for size in shape]) if len(shape) > 1 else value
            with torch.set_grad_enabled(grad):
                logits = self.subject.run(inputs, write=[Add(site, value)], grad=grad).logits
            assert logits is not None
            yield logits[rows, mask.sum(1) - 1].float().cpu()


def _balance(judged: Float[Tensor, "p 2"]) -> float:
    """The mean of cause and isolation."""
    return sum(_cause_isolation(judged)) / 2


def _cause_isolation(judged: Float[Tensor, "p 2"]) -> tuple[float, float]:
    right, own = judged[:, 0], judged[:, 1].bool()
    return float(right[own].mean()), float(right[~own].mean())


def _score(
    hold: Mapping[str, _Pairs],
    chosen: Mapping[str, Tensor],
    judged: Mapping[str, Float[Tensor, "p 2"]],
    full: Mapping[str, Float[Tensor, "p 2"]],
    control: float,
    seed: int,
) -> Score:
    found = {name: _cause_isolation(one) for name, one in judged.items()}
    whole = [_cause_isolation(one) for one in full.values()]
    count = len(found)
    parts = {
        "cause": sum(cause for cause, _ in found.values()) / count,
        "isolation": sum(isolation for _, isolation in found.values()) / count,
        "full_cause": sum(cause for cause, _ in whole) / count,
        "full_isolation": sum(isolation for _, isolation in whole) / count,
    }
    for name, (cause, isolation) in found.items():
        parts |= {f"cause:{name}": cause, f"isolation:{name}": isolation}
        parts |= {f"latents:{name}": float(len(chosen[name])), f"pairs:{name}": float(len(hold[name]))}
    columns = []
    for one in judged.values():  # (hit, counted) of cause and of isolation
        right, own = one.unbind(1)
        columns += [right * own, own, right * (1 - own), 1 - own]
    return Score(
        name="disentanglement",
        definition="disentanglement@1",
        value=(parts["cause"] + parts["isolation"]) / 2,
        unit="mean of cause and isolation",
        better="higher",
        n=len(columns[0]),
        interval=totals_interval(torch.stack(columns, dim=1), mean_of_ratios, seed=seed),
        control=control,
        parts=parts,
    )
