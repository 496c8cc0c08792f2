"""The grammar of phrases, agreement of groups, and the reproduction scaled far down."""

import pytest
import torch

from actscope.reproductions._parts.agreement import adjusted_rand
from actscope.reproductions._parts.phrases import CLASSES, CONTEXT, VOCABULARY, held, sentences
from actscope.reproductions.word_class import word_class


def test_groups_agree_with_themselves_under_any_names_and_not_with_chance():
    a = torch.arange(300) % 5
    assert adjusted_rand(a, (3 * a + 1) % 5) == pytest.approx(1)
    assert adjusted_rand(a, torch.randint(5, (300,), generator=torch.Generator().manual_seed(0))) == pytest.approx(0, abs=0.03)
    assert adjusted_rand(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 2])) == pytest.approx(4 / 7)


def test_the_class_of_the_next_word_follows_from_the_sentence_but_not_from_the_last_word():
    ids, kinds = sentences(60, seed=0)
    assert ids.shape == (60, CONTEXT) and 0 < int(ids.max()) < VOCABULARY and (ids[:, 0] == 0).all()
    noun, end = list(CLASSES).index("noun"), list(CLASSES).index("end")
    after = {int(kinds[row, t + 1]) for row in range(60) for t in range(1, CONTEXT - 1) if kinds[row, t] == noun}
    assert {list(CLASSES)[kind] for kind in after} == {"verb", "preposition", "end"}
    assert (kinds[:, 1:-1] == end).any() and torch.equal(sentences(60, seed=0)[0], ids)


def test_labels_are_the_classes_of_the_tokens():
    passages, labels = held(4, seed=1)
    (batch,) = passages.batches
    holds = labels.at(batch.where[:, 1:].flatten(0, 1))
    assert (torch.stack(list(holds.values())).sum(0) == 1).all() and not any(
        found.any() for found in labels.at(batch.where[:, 0]).values()
    )


@pytest.mark.full
def test_training_brings_the_classes_apart():
    result = word_class(seeds=(0,), steps=30, width=32, texts=30)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["ARI"] > mean["untrained ARI"] and abs(result.control) < 0.1
    assert mean["GDV layer 2"] < mean["untrained GDV layer 2"] - 0.05 and abs(mean["GDV permuted"]) < 0.05
