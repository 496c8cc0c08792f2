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


def captured(step: int) -> Store:
    return capture(load(f"pocket-mini@{step}"), grammar(1, 200), [SITE], tokens=3000)


def fitted(store: Store, seed: int = 0) -> Dictionary:
    return fit(TopK(reads={SITE: 64}, n_latents=64, k=8, seed=seed), store, Plan(rows=30_000, batch=500))


def test_latents_are_found_again_at_a_later_checkpoint_by_what_they_add_and_by_where_they_fire():
    store, later = captured(4096), captured(8192)
    late, last, again = fitted(store), fitted(later), fitted(later, seed=1)
    by_atoms, by_codes = match(late, last, store), match(late, last, store, later, by="codes")
    assert by_atoms.similarity.nanmean() > by_atoms.control.nanmean() + 0.1  # 0.65 and 0.34
    assert bool((by_codes.similarity > by_codes.control.nan_to_num(0.0)).all())  # 0.56 and 0.03: rows shuffled
    assert (by_atoms.partner == by_codes.partner).double().mean() > 0.5  # 1 of 64 by chance
    apart = match(late, again, store, later, by="codes")  # 0.42: not because both began at the same directions
    assert apart.similarity.nanmean() > by_codes.control.nanmean() + 0.1
