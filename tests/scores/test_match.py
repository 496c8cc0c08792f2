"""Which latent is which at two checkpoints of one model."""

from actscope.core.dictionary import Dictionary
from actscope.core.store import Store
from actscope.dictionaries.topk import TopK
from actscope.organisms.grammar import grammar
from actscope.scores._match import match
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.training.fit import fit
from actscope.training.plan import Plan

SITE = "layers.1.resid_post"


def fitted(step: int, seed: int = 0) -> tuple[Dictionary, Store]:
    """(dictionary of a checkpoint of pocket-mini, the store it was fitted on)."""
    store = capture(load(f"pocket-mini@{step}"), grammar(1, 200), [SITE], tokens=3000)
    made = TopK(reads={SITE: 64}, n_latents=64, k=8, seed=seed)
    return fit(made, store, Plan(rows=30_000, batch=500)), store


def test_latents_are_found_again_at_a_later_checkpoint_by_what_they_add_and_by_where_they_fire():
    (late, store), (last, later) = fitted(4096), fitted(8192)
    by_atoms, by_codes = match(late, last, store), match(late, last, store, later, by="codes")
    assert by_atoms.similarity.nanmean() > by_atoms.control.nanmean() + 0.1  # 0.65 and 0.34
    assert bool((by_codes.similarity > by_codes.control.nan_to_num(0.0)).all())  # 0.56 and 0.03: rows shuffled
    assert (by_atoms.partner == by_codes.partner).double().mean() > 0.5  # 1 of 64 by chance
    again, _ = fitted(8192, seed=1)  # not because both began at the same directions: 0.42
    assert match(late, again, store, later, by="codes").similarity.nanmean() > by_codes.control.nanmean() + 0.1
