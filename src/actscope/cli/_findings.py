"""What the main job found, as the report's values: one Feature a latent, with the contexts it is seen in.

Letters: n rows, m latents, f features, c causes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from actscope.core.artifact import pack
from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.explanation import Explanation
from actscope.core.labels import Labels
from actscope.core.lens import lens
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.reports.document import Effect, Examples, Feature, Histogram, Shown, Truth, Weighted

_BEFORE, _AFTER = 20, 8  # tokens shown around a token
_BINS = 24


@dataclass(frozen=True)
class Seen:
    """The dictionary's codes on the report split, with the text."""

    text: TokenText
    codes: Codes
    names: Mapping[int, str]  # document number -> id
    truth: Mapping[str, Tensor]  # cause -> Bool[n]

    @staticmethod
    def of(
        dictionary: Dictionary,
        subject: Subject,
        store: Store,
        documents: Sequence[int],
        labels: Labels | None,
        size: int = 8192,
    ) -> "Seen":
        text = TokenText.of(store, subject)
        rows = torch.isin(text.where[:, 0], torch.tensor(sorted(documents))).nonzero()[:, 0]
        with torch.no_grad():
            parts = [dictionary.encode(store.rows(piece, dictionary.reads).acts) for piece in rows.split(8192)]
        text = text.select(rows)
        return Seen(text, Codes.cat(parts), store.documents, {} if labels is None else labels.at(text.where))


def features(
    explained: Sequence[Explanation], dictionary: Dictionary, subject: Subject, seen: Seen, *, seed: int
) -> tuple[Feature, ...]:
    """One Feature for each explanation, which holds the scores "detection", "ablate" and "steer"."""
    latents = [explanation.latent for explanation in explained]
    seen_through = lens(subject, dictionary.atoms[dictionary.write][torch.tensor(latents)])
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number, explanation in enumerate(explained):
        values = seen.codes.column(explanation.latent)
        found.append(
            _feature(explanation, values, seen, _extremes(seen_through[number], subject), _examples(values, seen, generator))
        )
    return tuple(found)


def _feature(
    explanation: Explanation,
    values: Float[Tensor, " n"],
    seen: Seen,
    tokens: tuple[tuple[Weighted, ...], ...],
    examples: Examples,
) -> Feature:
    detection = explanation.score("detection")
    active = values[values > 0]
    mean = float(active.mean()) if len(active) else 1.0
    effects = {name: _effect(explanation.score(name), mean) for name in ("ablate", "steer")}
    quoted = _quoted(explanation)
    score = explanation.score(quoted)
    return Feature(
        latent=explanation.latent,
        meaning=explanation.text,
        detection=detection.value,
        detection_shuffled=detection.control or 0.0,
        effect=score.value if score.n else None,
        effect_control=score.control if score.n else None,
        interval=score.interval,
        caused=any(explanation.score(name).parts["caused"] > 0 for name in effects),
        detection_interval=detection.interval,
        detection_parts=dict(detection.parts),
        operation=quoted if score.n else None,  # type: ignore[arg-type]
        density=len(active) / max(1, len(values)),
        contexts=detection.n,
        rule=json.loads(json.dumps(pack(explanation.rule, {}))),
        ablate=effects["ablate"],
        steer=effects["steer"],
        targets=tuple(explanation.evidence["targets"]),  # type: ignore[arg-type]
        histogram=_histogram(active),
        promotes=tokens[0],
        suppresses=tokens[1],
        examples=examples,
        truth=_truth(values > 0, seen.truth),
    )


def _quoted(explanation: Explanation) -> str:
    """The operation whose interval lies further from 0 on the expected side, in its own widths; ablation where neither."""

    def clearance(score: Score) -> tuple[float, float]:
        if score.interval is None:
            return (-1.0, 0.0)
        low, high = score.interval
        sign = 1 if score.better == "higher" else -1
        near = low if sign > 0 else -high
        return (score.parts["caused"], near / max(high - low, 1e-12))

    return max(("ablate", "steer"), key=lambda name: clearance(explanation.score(name)))


def _effect(score: Score, mean: float) -> Effect:
    return Effect(
        effect=score.value,
        control_random=score.parts["control_random"],
        control_latents=score.parts["control_latents"],
        interval=score.interval,
        p=score.parts["p"],
        n=score.n,
        dose=score.parts["dose"] / mean if "dose" in score.parts else None,
    )


def _histogram(active: Float[Tensor, " k"]) -> Histogram | None:
    if not len(active):
        return None
    top = float(active.max())
    counts = torch.histc(active.float(), _BINS, 0.0, top)
    return Histogram(tuple((torch.linspace(0, top, _BINS + 1)).tolist()), tuple(int(count) for count in counts))


def _examples(values: Float[Tensor, " n"], seen: Seen, generator: torch.Generator) -> Examples:
    """At the top (one a document), at falling quantiles, and at random among active rows."""
    rows = values.nonzero()[:, 0]
    if not len(rows):
        return Examples()
    falling = rows[values[rows].argsort(descending=True)]
    top, documents = [], set()
    for row in falling[:400].tolist():
        document = int(seen.text.where[row, 0])
        if document not in documents and len(top) < 6:
            documents.add(document)
            top.append(row)
    quantile = falling[torch.linspace(0.1, 0.9, 5).mul(len(falling)).long()].tolist()
    random = rows[torch.randperm(len(rows), generator=generator)[:5]].tolist()
    return Examples(*(tuple(_shown(row, values, seen) for row in chosen) for chosen in (top, quantile, random)))


def _shown(row: int, values: Float[Tensor, " n"], seen: Seen) -> Shown:
    document, position = seen.text.where[row].tolist()
    same = seen.text.where[max(0, row - _BEFORE) : row + _AFTER + 1, 0] == document
    around = torch.arange(max(0, row - _BEFORE), max(0, row - _BEFORE) + len(same))[same]
    pieces = [seen.text.vocabulary[token] for token in seen.text.ids[around].tolist()]
    tokens = list(zip(pieces, [round(value, 4) for value in values[around].tolist()], strict=True))
    here = int((around == row).nonzero())
    piece, activation = tokens[here]
    return Shown(seen.names[document], position, tuple(tokens[:here]), piece, activation, tuple(tokens[here + 1 :]))


def _extremes(change: Float[Tensor, " vocab"], subject: Subject, k: int = 6) -> tuple[tuple[Weighted, ...], ...]:
    """The tokens raised and lowered most."""
    both = []
    for largest in (True, False):
        value, token = change.topk(min(k, len(change)), largest=largest)
        pieces = subject.pieces(token.tolist())
        both.append(tuple((piece, round(v, 4)) for piece, v in zip(pieces, value.tolist(), strict=True)))
    return tuple(both)


def _truth(active: Tensor, truth: Mapping[str, Int[Tensor, " n"]], most: int = 3, least: float = 0.1) -> tuple[Truth, ...]:
    """The causes whose places this latent's activity matches best."""
    said = float(active.sum())
    scored = []
    for cause, holds in truth.items():
        both = float((active & holds).sum())
        if both:
            scored.append(Truth(cause, 2 * both / (said + float(holds.sum()))))
    return tuple(item for item in sorted(scored, key=lambda item: -item.f1)[:most] if item.f1 >= least)
