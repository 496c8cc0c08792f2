"""Explain a latent by what its direction says of the next token, from weights alone. The logit lens (nostalgebraist 2020,
"interpreting GPT: the logit lens"), for the decoder directions of sparse dictionaries.

1. The direct path: the latent's decoder direction goes through the last norm and the unembedding, as if no layer stood between
   (`core/lens.py`). What it raises most is promoted, what it lowers most suppressed. Layers that stand
   between may do otherwise: this is an attribution along one path, not the effect.
2. Control: random directions through the same path. How peaked a direction's logits are (kurtosis over the vocabulary) is
   compared with theirs: a latent no more peaked than chance has a list of tokens, as any direction has, and no meaning in it.
3. Validation by intervening: at random places each latent's direction is added where the dictionary writes, at a strength at
   which it is found in the text, and the model is run. The score is the correlation over the vocabulary of the measured change
   of the log probabilities with step 1, beside that of the same change with other latents' lenses.

Letters: f latents, p places, v vocabulary, d width.
"""

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from actscope.core.dictionary import Dictionary
from actscope.core.errors import BadInput, Interrupted
from actscope.core.explanation import Explanation
from actscope.core.lens import kurtosis, lens
from actscope.core.predicate import TokenIn, named
from actscope.core.progress import Progress, quiet, stop_requested
from actscope.core.score import Score
from actscope.core.store import Store
from actscope.core.subject import Subject
from actscope.core.text import TokenText
from actscope.explainers._parts.splits import wanted_latents
from actscope.scores._parts.bootstrap import by_document, interval, ratios
from actscope.scores._parts.reading import Reading, check_subject
from actscope.scores._parts.variants import run_variants

__all__ = ["logit_lens"]

_TOGETHER = 64  # latents steered with in one row


def logit_lens(
    dictionary: Dictionary,
    subject: Subject,
    store: Store,
    *,
    latents: Sequence[int] | None = None,
    documents: Iterable[int] | None = None,
    tokens: int = 8,
    controls: int = 200,
    places: int = 48,
    quantile: float = 0.95,
    seed: int = 0,
    progress: Progress = quiet,
) -> list[Explanation]:
    """What each latent promotes and suppresses by the direct path from its decoder to the logits (nostalgebraist 2020).

    latents: which to explain (None: all). documents: where to steer, for the validation (None: all of the store). tokens:
    listed on each side. controls: random directions. places: at which is steered; from as many documents. quantile: of the
    latent's activations, the strength of steering; of one that is never active, the median of the others'.

    The rule lists the tokens promoted and speaks of the token that comes next, not of where the latent fires. evidence:
    "promotes" and "suppresses" ([token, logits a unit of the normed direction]), "kurtosis", "kurtosis_random" (the median
    of the random directions'), "chance" (share of random directions at least as peaked). scores: "direct_path"
    (correlation of lens and measured change; control: with other latents' lenses; interval: bootstrap over documents).

    Raises WrongSubject; BadInput for latents out of range, fewer than 2 documents, or a subject without an unembedding.
    """
    check_subject(dictionary, subject, store)
    wanted = wanted_latents(dictionary, latents)
    atoms = dictionary.atoms[dictionary.write].detach().float().cpu()[torch.tensor(wanted, dtype=torch.long)]
    seen = lens(subject, atoms)
    generator = torch.Generator().manual_seed(seed)
    chance = kurtosis(lens(subject, torch.randn(controls, atoms.shape[1], generator=generator))).sort().values
    peaked = kurtosis(seen)
    alike, where = _measured(dictionary, subject, store, documents, wanted, atoms, seen, places, quantile, generator, progress)
    vocabulary = subject.pieces(range(seen.shape[1]))
    found = []
    for number, latent in enumerate(wanted):
        raised, lowered = (_listed(sign * seen[number], vocabulary, tokens) for sign in (1, -1))
        evidence = {
            "promotes": [[token, value] for token, value in raised.items()],
            "suppresses": [[token, -value] for token, value in lowered.items()],
            "kurtosis": float(peaked[number]),
            "kurtosis_random": float(chance[len(chance) // 2]),
            "chance": float((chance >= peaked[number]).double().mean()),
        }
        text = f"by its weights makes {named(tuple(raised))} likelier to come next and {named(tuple(lowered))} less likely"
        score = _score(alike[:, number], number, where, seed)
        found.append(Explanation(latent, text, "logit_lens", TokenIn(tuple(raised)), evidence, (score,)))
    return found


def _listed(values: Float[Tensor, " v"], vocabulary: Sequence[str], most: int) -> dict[str, float]:
    """The tokens of the highest values, one a text."""
    best = values.topk(min(4 * most, len(values)))
    kept: dict[str, float] = {}
    for value, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        if piece := str(vocabulary[int(token)]):
            kept.setdefault(piece, value)
    return dict(list(kept.items())[:most])


def _measured(
    dictionary: Dictionary, subject: Subject, store: Store, documents: Iterable[int] | None, wanted: list[int],
    atoms: Float[Tensor, "f d"], seen: Float[Tensor, "f v"], places: int, quantile: float, generator: torch.Generator,
    progress: Progress,
) -> tuple[Float[Tensor, "p f f"], Int[Tensor, " p"]]:  # fmt: skip
    """Step 3: the correlation of every latent's measured change with every latent's lens, at each place; and the places'
    documents."""
    reading = Reading.of(dictionary, store, TokenText.of(store, subject), documents)
    dose = _doses(reading, wanted, quantile)
    sequences, spots, where = _spots(store, sorted(reading.text.where[:, 0].unique().tolist()), places, generator)
    known = normalize(seen, dim=1)  # [f v]; its mean is 0
    found = torch.zeros(len(spots), len(wanted), len(wanted))
    for start in range(0, len(wanted), _TOGETHER):
        if stop_requested():
            raise Interrupted(f"Stopped after {start} of {len(wanted)} latents; nothing was saved: run it again.")
        progress(start, len(wanted), "latents steered with")
        some = slice(start, start + _TOGETHER)
        added = torch.cat([torch.zeros(1, atoms.shape[1]), dose[some, None] * atoms[some]])
        steps = run_variants(
            subject, dictionary.write.site, sequences, spots, lambda at, v=added: v.expand(len(at), *v.shape), len(added)
        )
        for at, logits in steps:
            logs = logits.log_softmax(2)
            change = logs[:, 1:] - logs[:, :1]
            found[at, some] = normalize(change - change.mean(2, keepdim=True), dim=2) @ known.T
    progress(len(wanted), len(wanted), "latents steered with")
    return found, where


def _doses(reading: Reading, wanted: list[int], quantile: float) -> Float[Tensor, " f"]:
    values = [reading.active(latent)[1] for latent in wanted]
    found = torch.tensor([float(torch.quantile(some, quantile)) if len(some) else torch.nan for some in values])
    usual = found.nanmedian()
    return torch.where(found.isnan(), torch.where(usual.isnan(), torch.ones(()), usual), found)


def _spots(
    store: Store, documents: list[int], places: int, generator: torch.Generator
) -> tuple[list[Tensor], Int[Tensor, "p 2"], Int[Tensor, " p"]]:
    """(sequences, (sequence, index in it) of each place, its document): one random place in each of `places` documents."""
    if len(documents) < 2:
        raise BadInput(f"{len(documents)} document given to steer in; expected at least 2, for an interval. Give more text.")
    chosen = {documents[i] for i in torch.randperm(len(documents), generator=generator)[:places].tolist()}
    sequences, spots, where = [], [], []
    for inputs, begins in store.sequences(64, sorted(chosen)):
        assert inputs.ids is not None, "a store of text"
        lengths = [inputs.ids.shape[1]] * len(inputs.ids) if inputs.mask is None else inputs.mask.sum(1).tolist()
        for ids, length, document in zip(inputs.ids, lengths, begins[:, 0].tolist(), strict=True):
            if document in chosen and length > 1:
                chosen.discard(document)
                spots.append([len(sequences), int(torch.randint(1, length, (), generator=generator))])
                sequences.append(ids[:length])
                where.append(document)
    return sequences, torch.tensor(spots), torch.tensor(where)


def _score(alike: Float[Tensor, "p f"], number: int, where: Int[Tensor, " p"], seed: int) -> Score:
    others = torch.arange(alike.shape[1]) != number
    sums, counts = by_document(alike[:, number : number + 1], where)
    return Score(
        name="direct_path",
        definition="direct_path@1",
        value=float(alike[:, number].mean()),
        unit="correlation",
        better="higher",
        n=len(where),
        interval=interval(ratios(sums, counts[:, None], draws=2000, seed=seed)[:, 0]),
        control=float(alike[:, others].mean()) if bool(others.any()) else None,
    )
