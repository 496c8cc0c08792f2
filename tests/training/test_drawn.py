"""Batches drawn anew: a batch depends on its number and the seed alone, and judging draws none of them."""

from itertools import islice

from actscope.training.drawn import APART, Drawn


def test_a_batch_is_a_function_of_its_number_and_the_seed():
    source = Drawn(lambda size, seed: (size, seed), "numbers", first=APART)
    first = list(islice(source.batches(4, seed=2), 5))
    assert list(islice(source.batches(4, seed=2, start=3), 2)) == first[3:]
    assert len(set(first)) == 5 and not set(first) & set(islice(source.batches(4, seed=3), 5))
    assert all(size == 4 and seed >= APART for size, seed in first)
    assert source.identity == "numbers"
