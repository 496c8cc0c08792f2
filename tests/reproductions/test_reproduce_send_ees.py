"""The reproduction of sensitivity dropout on a small scale: its figures mean what they say."""

import time

import pytest
import torch

from actscope.reproductions._parts.agreeing import agreeing, by_eigenvalues, times_faster
from actscope.reproductions._parts.memorised import A_ROW, IGNORED, base, error, facts, source
from actscope.reproductions.send_ees import about_line, efficiency, send_ees
from actscope.scores._parts.logdet import mean_log_eigenvalue


def test_every_subject_has_a_fact_of_each_relation_and_no_new_subject_is_known():
    world = facts(0)
    known, new = (set(part[:, 0].tolist()) for part in world)
    assert not known & new and len(world.known) == len(world.new) == 4 * len(known)
    assert len({tuple(one) for one in world.new[:, :2].tolist()}) == len(world.new)
    assert not torch.equal(facts(1).new[:, 2], world.new[:, 2])


def test_objects_are_what_is_asked_for_and_they_are_the_facts():
    world = facts(0)
    batch = next(source(world.new, "new").batches(6, seed=1, start=0))
    assert ((batch.targets != IGNORED).sum(1) == A_ROW).all()
    told = {tuple(one[:2]): one[2] for one in world.new.tolist()}
    for row, place in (batch.targets != IGNORED).nonzero().tolist():
        assert int(batch.targets[row, place]) == told[tuple(batch.ids[row, place - 1 : place + 1].tolist())]


def test_a_model_that_was_not_trained_is_wrong_and_one_that_was_is_less_so():
    world = facts(0)
    sizes = {"width": 32, "layers": 2, "seed": 0}
    assert error(base(world.known, **sizes, steps=1), world.known) > 0.9
    assert error(base(world.known[:24], **sizes, steps=60), world.known[:24]) < 0.4


def test_what_lies_on_a_line_does_not_vary_about_it():
    assert about_line([1.0, 0.8, 0.6, 0.4]) == pytest.approx(0, abs=1e-12)
    assert about_line([0.0, 1.0, 0.0, 1.0]) == pytest.approx(0.2)  # residuals -0.2 0.6 -0.6 0.2


def test_all_ways_to_an_eigenscore_agree_and_ratios_are_those_of_times():
    z = agreeing(0, 30, 50)
    exact = mean_log_eigenvalue(z, 1e-3)
    assert by_eigenvalues(z, 1e-3) == pytest.approx(exact) == by_eigenvalues(z, 1e-3, vectors=False)
    found = efficiency(160, 240, 12, 1)
    assert found["r with exact, 160 x 240"] > 0.95 and min(found.values()) > 0
    one = times_faster(lambda: time.sleep(0.02), lambda: None, 3)
    assert one == sorted(one) and len(one) == 3 and one[1] > 1


@pytest.mark.full
def test_its_figures_are_those_of_the_claim():
    result = send_ees(seeds=(0,), learned=40, intervals=5, steps=4, sizes=((200, 256),), rounds=1)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == mean["error, SenD"] and result.baseline == mean["error, plain"]
    assert result.control == mean["error, random dropout"]
