"""What a latent does to the model's next tokens, with controls at the same places."""

import dataclasses
import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted, WrongSubject
from actscope.core.explanation import Explanation
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.score import Score
from actscope.core.site import Site
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.scores._parts.bootstrap import holm, holm_levels
from actscope.scores._parts.spots import Firing, Spots, choose, others_active, sequences_of
from actscope.scores._parts.studentized import Studentized, studentized
from actscope.scores._parts.variants import Vectors, run_variants

__all__ = ["effect"]

_RESOLUTION = 1e-5  # nats: what float32 logits resolve
_OPERATIONS = (("ablate", -1), ("steer", 1))  # name, the sign that is expected


def effect(
    explanations: Sequence[Explanation],
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    select: Iterable[int],
    report: Iterable[int],
    positions: int = 64,
    targets: int = 5,
    steady: float = 0.75,
    controls: int = 20,
    dose: float = 0.95,
    level: float = 0.05,
    draws: int = 20_000,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Explanation]:
    """Ablate each explained latent and steer with it, and measure what that does to the tokens its meaning predicts.

    1. Target, on the documents `select`: at up to `positions` places where the latent is active and its rule holds, take
       value * atom out of the site the dictionary writes. Of the next tokens whose probability falls at `steady` of
       these places or more, the target is the (up to `targets`) whose probability falls most on average. (A fall that
       is large in a few contexts and absent in the others belongs to those contexts, not to the meaning.)
    2. Effect, on the documents `report`: at up to `positions` places where the latent is active, from as many documents
       as there are, the change in the log of the target's summed probability, in nats: "ablate" takes value * atom
       out, "steer" adds the latent's `dose` quantile of activation (over `select`) * atom.
    3. Controls, at the same places, the same operation scaled to the same norm: (a) `controls` random directions, drawn
       anew at every place, (b) up to `controls` other latents active there, along their own atoms.
    4. Interval: studentized bootstrap over documents of effect - mean control, each document a pair, once against (a)
       and once against (b); the one that is further from showing an effect is the one reported. Two-sided, its level
       corrected by Holm's step-down over both operations of all explanations.

    The k-th explanation comes back with the scores "ablate" and "steer" (value: the effect; control: the mean control
    behind the interval; n: documents; parts: p (corrected), caused, dose, control_random, control_latents, control_size
    (mean size of the random directions' change), positions) and the target's tokens as evidence. `caused` is 1 where the
    interval excludes 0 on the expected side (ablation lowers the target's probability, steering raises it), the same
    interval of the effect alone does so too (else a control that moves the other way would count for the latent), and
    the effect is above what float32 resolves. A latent with fewer than 12 documents has no interval and caused 0.

    Raises BadInput when the documents overlap or when the site has no way to the logits (a control that cannot act is
    no control), and WrongSubject when the dictionary was trained on another subject.
    """
    select, report = sorted(set(select)), sorted(set(report))
    _check(dictionary, subject, select, report)
    explained = list(explanations)
    if not explained:
        return []
    firing = Firing.of(dictionary, store)
    work = _Work(explained, dictionary, subject, store, firing, positions, controls, seed, progress)
    doses = work.quantiles(select, dose)
    target = work.targets(select, targets, steady)
    return work.verdicts(work.measure(report, doses, target), doses, target, level, draws)


def _check(dictionary: Dictionary, subject: Subject, select: list[int], report: list[int]) -> None:
    if both := sorted(set(select) & set(report)):
        raise BadInput(f"Documents {both[:3]} are in select and in report; the target must be fixed on other documents.")
    if dictionary.subject and dictionary.subject != subject.fingerprint:
        raise WrongSubject(
            f"The dictionary was trained on the subject {dictionary.subject[:12]}, and {subject.name} is "
            f"{subject.fingerprint[:12]}; load the subject it was trained on."
        )


@dataclasses.dataclass(frozen=True)
class _Measured:
    spots: Spots
    documents: Int[Tensor, " p"]
    change: Float[Tensor, "p 2 c"]  # nats; operation, then the latent, random directions, other latents (NaN: none)


@dataclasses.dataclass(frozen=True)
class _Work:
    explanations: list[Explanation]
    dictionary: Dictionary
    subject: Subject
    store: Store
    firing: Firing
    positions: int
    controls: int
    seed: int
    progress: Progress

    @property
    def latents(self) -> list[int]:
        return [explanation.latent for explanation in self.explanations]

    @property
    def site(self) -> Site:
        return self.dictionary.write.site

    @property
    def atoms(self) -> Float[Tensor, "m d"]:
        return self.dictionary.atoms[self.dictionary.write].detach().float().cpu()

    def quantiles(self, documents: list[int], share: float) -> Float[Tensor, " f"]:
        """That quantile of each latent's non-zero activations; NaN for one that never fires."""
        inside = torch.isin(self.firing.where[:, 0], torch.tensor(documents))
        found = []
        for latent in self.latents:
            value = self.firing.codes.column(latent)[inside]
            value = value[value > 0].sort().values
            found.append(float(value[int(share * (len(value) - 1))]) if len(value) else math.nan)
        return torch.tensor(found)

    def targets(self, documents: list[int], most: int, steady: float) -> Int[Tensor, "f k"]:
        """Each latent's target tokens; -1 where there are fewer."""
        spots = choose(self.firing, self.latents, documents, most=self.positions, allowed=self._rules_hold(), seed=self.seed)
        sequences, places = sequences_of(self.store, self.firing.where[spots.row])
        scaled = spots.value[:, None] * self.atoms[torch.tensor(self.latents)[spots.feature]]

        def vectors(here: Tensor) -> Tensor:
            mine = scaled[here]
            random = torch.cat([_random(1, mine.shape[1], self.seed, spot) for spot in here.tolist()])
            random = torch.nn.functional.normalize(random, dim=-1) * mine.norm(dim=-1, keepdim=True)
            return torch.stack([torch.zeros_like(mine), -mine, random], dim=1)

        acts = not len(places)
        change = torch.zeros(2, len(self.latents), self.subject.sites[Site("logits")].width)  # of probability; places of a fall
        counts = torch.bincount(spots.feature, minlength=len(self.latents)).clamp_min(1)
        for here, logits in run_variants(self.subject, self.site, sequences, places, vectors, 3):
            self._poll()
            acts = acts or bool((logits[:, 2] != logits[:, 0]).any())
            probability = logits[:, :2].softmax(-1)
            fall = probability[:, 1] - probability[:, 0]
            change.index_add_(1, spots.feature[here], torch.stack([fall, (fall < 0).float()]))
        if not acts:
            raise BadInput(
                f"Adding random directions as long as the latents' at {self.site} changes no logit, so effects "
                "there cannot be controlled; fit the dictionary at a site the logits depend on."
            )
        fall, often = change / counts[:, None]
        fall, token = torch.where(often >= steady, fall, 0.0).topk(min(most, fall.shape[1]), largest=False)
        return torch.where(fall < 0, token, -1)

    def _rules_hold(self) -> list[Bool[Tensor, " n"] | None]:
        text = TokenText.of(self.store, self.subject)
        return [None if explanation.rule is None else explanation.rule.holds(text) for explanation in self.explanations]

    def measure(self, documents: list[int], doses: Tensor, target: Tensor) -> _Measured:
        """The change in log probability of the target, for every place, operation and variant."""
        nothing: list[Tensor | None] = [None] * len(self.latents)
        spots = choose(self.firing, self.latents, documents, most=self.positions, allowed=nothing, seed=self.seed + 1)
        spots = _only(spots, ((target >= 0).any(1) & doses.isfinite())[spots.feature])
        others = others_active(self.firing, spots, self.latents, self.controls, seed=self.seed)
        where = self.firing.where[spots.row]
        sequences, places = sequences_of(self.store, where)
        c = 1 + 2 * self.controls
        change = torch.full((len(spots.row), 2, c), math.nan)
        done = 0
        vectors = _vectors(self.atoms, torch.tensor(self.latents), spots, others, doses, self.controls, self.seed)
        for here, logits in run_variants(self.subject, self.site, sequences, places, vectors, 1 + 2 * c):
            self._poll()
            log_p = _log_probability(logits, target[spots.feature[here]])
            change[here] = (log_p[:, 1:] - log_p[:, :1]).unflatten(1, (2, c))
            done += len(here)
            self.progress(done, len(spots.row), "places intervened at")
        change[:, :, 1 + self.controls :][(others < 0)[:, None].expand(-1, 2, -1)] = math.nan
        return _Measured(spots, where[:, 0], change)

    def verdicts(self, measured: _Measured, doses: Tensor, target: Tensor, level: float, draws: int) -> list[Explanation]:
        """Every explanation with its two scores, all intervals corrected together."""
        tests = []  # (against each control and against nothing, means) of every explanation and operation
        for feature in range(len(self.explanations)):
            here = measured.spots.feature == feature
            for operation in range(len(_OPERATIONS)):
                tests.append(self._test(measured.change[here, operation], measured.documents[here], draws))
        p = torch.tensor([max(pair.p for pair in pairs) for pairs, _ in tests], dtype=torch.float64)
        levels, corrected = (1 - holm_levels(p, 1 - level)).tolist(), holm(p).tolist()
        done = []
        for feature, explanation in enumerate(self.explanations):
            dose = 0.0 if doses[feature].isnan() else float(doses[feature])
            scores = []
            for number, (name, sign) in enumerate(_OPERATIONS):
                test = 2 * feature + number
                parts = {"p": corrected[test], "level": levels[test], **({"dose": dose} if name == "steer" else {})}
                pairs, seen = tests[test]
                scores.append(_score(name, sign, pairs, seen, levels[test], parts))
            ids = [token for token in target[feature].tolist() if token >= 0]
            evidence = {**explanation.evidence, "targets": self.subject.pieces(ids), "target_ids": ids}
            done.append(dataclasses.replace(explanation, scores=(*explanation.scores, *scores), evidence=evidence))
        return done

    def _test(self, change: Tensor, documents: Tensor, draws: int) -> tuple[list[Studentized], dict[str, float]]:
        mine = change[:, 0]
        against = change[:, 1 : 1 + self.controls].mean(1), change[:, 1 + self.controls :].nanmean(1)
        pairs = []
        for control in (*against, torch.zeros_like(mine)):
            known = control.isfinite()
            pairs.append(studentized((mine - control)[known], documents[known], draws=draws, seed=self.seed))
        means = [float(part[part.isfinite()].mean()) if part.isfinite().any() else 0.0 for part in (mine, *against)]
        size = float(change[:, 1 : 1 + self.controls].abs().mean()) if len(mine) else 0.0
        names = ("effect", "control_random", "control_latents", "control_size", "positions")
        return pairs, dict(zip(names, (*means, size, float(len(mine))), strict=True))

    def _poll(self) -> None:
        if stop_requested():
            raise Interrupted("Stopped while measuring effects; nothing of this stage is kept. Run the same command again.")


def _only(spots: Spots, kept: Bool[Tensor, " p"]) -> Spots:
    return Spots(spots.feature[kept], spots.row[kept], spots.value[kept])


def _vectors(atoms: Tensor, latents: Tensor, spots: Spots, others: Tensor, doses: Tensor, controls: int, seed: int) -> Vectors:
    """For some spots, Float[g 1+2c d]: nothing; then minus (ablate) and plus (steer) the latent, the random directions
    and the other latents, the last two scaled to the norm of what the latent is moved by."""

    def vectors(here: Tensor) -> Tensor:
        feature = spots.feature[here]
        mine = atoms[latents[feature]]
        length = mine.norm(dim=-1)
        random = torch.stack([_random(controls, atoms.shape[1], seed, spot) for spot in here.tolist()])
        known = (others[here] >= 0)[..., None]
        units = torch.cat([mine[:, None], random, atoms[others[here].clamp_min(0)] * known], dim=1)
        units = torch.nn.functional.normalize(units, dim=-1)
        ablate = (spots.value[here] * length)[:, None, None] * -units
        steer = (doses[feature] * length)[:, None, None] * units
        return torch.cat([torch.zeros_like(units[:, :1]), ablate, steer], dim=1)

    return vectors


def _random(n: int, d: int, seed: int, spot: int) -> Float[Tensor, "n d"]:
    return torch.randn(n, d, generator=torch.Generator().manual_seed((seed << 32) + spot))


def _log_probability(logits: Float[Tensor, "g v vocab"], target: Int[Tensor, "g k"]) -> Float[Tensor, "g v"]:
    """Log of the summed probability of each row's target tokens; -1 stands for none."""
    index = target.clamp_min(0)[:, None].expand(-1, logits.shape[1], -1)
    found = logits.gather(2, index).masked_fill((target < 0)[:, None], -math.inf)
    return found.logsumexp(-1) - logits.logsumexp(-1)


def _score(
    name: str, sign: int, pairs: list[Studentized], seen: dict[str, float], level: float, parts: dict[str, float]
) -> Score:
    bounds = [pair.interval(level) for pair in pairs]
    reach = [sign * (low if sign > 0 else high) for low, high in bounds]  # how far inside the expected side
    harder = 0 if reach[0] <= reach[1] else 1
    caused = min(reach) > 0 and abs(seen["effect"]) > _RESOLUTION
    return Score(
        name=name,
        definition=f"effect.{name}@1",
        value=seen["effect"],
        unit="nats",
        better="higher" if sign > 0 else "lower",
        n=pairs[harder].n,
        interval=bounds[harder] if math.isfinite(sum(map(abs, bounds[harder]))) else None,
        control=(seen["control_random"], seen["control_latents"])[harder],
        parts={**parts, "caused": float(caused), **{name: value for name, value in seen.items() if name != "effect"}},
    )
