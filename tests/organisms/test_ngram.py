"""The Kneser-Ney baseline, against its definition written out by brute force."""

from collections import Counter
from random import Random

import pytest

from actscope.organisms._ngram import KneserNey

VOCABULARY = 7


def _sequences(seed: int) -> list[list[int]]:
    random = Random(seed)
    return [[0] + [random.randint(1, 5) for _ in range(random.randint(1, 9))] for _ in range(25)]


def _grams(sequences: list[list[int]], length: int) -> list[tuple[int, ...]]:
    return [
        tuple(s[end - length : end])
        for s in sequences
        for end in range(max(length, 2), len(s) + 1)  # the first id is given
    ]


def _counts(sequences: list[list[int]], length: int, order: int) -> Counter:
    if length == order:
        return Counter(_grams(sequences, length))
    counts = Counter(gram[1:] for gram in set(_grams(sequences, length + 1)))
    if length > 1:
        counts.update(gram for gram in _grams(sequences, length) if gram[0] == 0)
    return counts


def _chance(sequences: list[list[int]], history: tuple[int, ...], word: int, length: int, order: int) -> float:
    if length == 0:
        return 1 / VOCABULARY
    if len(history) < length - 1:
        return _chance(sequences, history, word, length - 1, order)
    counts = _counts(sequences, length, order)
    context = history[len(history) - length + 1 :]
    lower = _chance(sequences, history, word, length - 1, order)
    after = {gram[-1]: count for gram, count in counts.items() if gram[:-1] == context}
    if not after:
        return lower
    once, twice = (sum(count == times for count in counts.values()) for times in (1, 2))
    discount = once / (once + 2 * twice) if once else 0.5
    total = sum(after.values())
    return max(after.get(word, 0) - discount, 0) / total + discount * len(after) / total * lower


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_it_is_the_definition(order: int):
    sequences, unseen = _sequences(0), _sequences(1)[:6]
    model = KneserNey(sequences, vocabulary=VOCABULARY, order=order)
    for sequence in unseen:
        for place, found in enumerate(model.log2(sequence), 1):
            expected = _chance(sequences, tuple(sequence[:place]), sequence[place], order, order)
            assert 2**found == pytest.approx(expected, rel=1e-9)


def test_chances_add_up_to_one():
    model = KneserNey(_sequences(2), vocabulary=VOCABULARY, order=5)
    for history in ([0], [0, 3], [0, 5, 5, 5, 5, 5], [0, 1, 2, 3, 4]):
        assert sum(2 ** model.log2([*history, word])[-1] for word in range(VOCABULARY)) == pytest.approx(1)


def test_more_context_helps_where_there_is_structure():
    counting = [[0, *range(1, 6), *range(1, 6)] for _ in range(20)]
    short, long = (-KneserNey(counting, vocabulary=VOCABULARY, order=n).log2(counting[0]).mean() for n in (1, 3))
    assert long < 0.5 < 2 < short
