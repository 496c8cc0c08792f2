"""The reproduction of phases of the loss landscape: settings are put in the phases that they are in."""

import pytest
import torch

from actscope.reproductions import phase_zoo as module
from actscope.reproductions.phase_zoo import BARRIER, PHASES, Setting, parting, phase_zoo, phases, spreads, thresholds


def setting(trace, connected, alike, accuracy, gain):
    return Setting(8, 0.1, (trace, trace), (connected, connected), (alike, alike), 1.0, 0.1, accuracy, gain, -50.0, 0.1)


KNOWN = {
    "I": (3.0, -0.5, 0.5), "II": (3.1, 0.2, 0.5), "III": (1.0, -0.4, 0.9), "IV-A": (1.1, 0.0, 0.7), "IV-B": (0.9, -0.01, 0.95),
}  # fmt: skip


def test_five_settings_are_in_the_five_phases():
    rows = torch.tensor(list(KNOWN.values()))
    metric = dict(zip(("trace", "connected", "alike"), rows.T, strict=True))
    limits = thresholds(metric)
    assert [PHASES[number] for number in phases(metric, limits).tolist()] == list(KNOWN)
    assert 1.1 < limits["trace"] < 3.0 and 0.7 < limits["alike"] < 0.95
    barrier = {**metric, "connected": torch.full((5,), -BARRIER - 0.01)}
    assert set(phases(barrier, limits).tolist()) == {0, 2}


def test_numbers_are_parted_where_they_part():
    assert 2.0 < parting(torch.tensor([1.0, 9.0, 2.0, 8.0, 1.5])) < 8.0


def test_spreads_are_the_mean_squares_of_an_analysis_of_variance():
    within, across = spreads(torch.tensor([1.0, 3.0, 7.0, 9.0]), torch.tensor([0, 0, 4, 4]))
    assert within == pytest.approx(2**0.5) and across == pytest.approx(6.0)  # 4 / 2 and (2 * 9 + 2 * 9) / 1
    values = torch.randn(40, generator=torch.Generator().manual_seed(0))
    within, across = spreads(values, torch.arange(40) % 4)
    assert 0.3 < across / within < 2


def test_figures_are_those_of_the_phases():
    gain = {"I": -8.0, "II": -2.0, "III": -6.0, "IV-A": 0.1, "IV-B": 0.3}
    settings = [setting(*row, 0.5 + 0.1 * list(KNOWN).index(name), gain[name]) for name, row in KNOWN.items()]
    found = module._measured([*settings, *settings], 0)
    assert found["gain, phase IV"] == pytest.approx(0.2) and found["gain, other phases"] == pytest.approx(-16 / 3)
    assert found["gain, phase II"] == pytest.approx(-2) and found["phases that occur"] == 5
    assert found["settings whose pairs show one phase"] == 1 > found["settings whose pairs show one phase, dealt out anew"]
    assert found["spread of accuracy within phases"] == pytest.approx(0, abs=1e-6)
    across, anew = (found[f"spread of accuracy across{name}"] for name in (" phases", ", dealt out anew"))
    assert across > 1.5 * anew > 0


@pytest.mark.full
def test_a_small_zoo_has_what_it_says():
    result = phase_zoo(seeds=(0,), widths=(4, 64), rates=(0.003, 0.05), epochs=15, bends=60, probes=5)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert (
        mean["phase (1 to 5), width 64, rate 0.05"] >= 4
        and mean["gain, width 64, rate 0.05"] > mean["gain, width 4, rate 0.05"]
    )
    assert result.ours == mean["gain, phase IV"] > result.control == mean["gain, phase IV, random order"]
    assert sum(mean.get(f"settings, phase {name}", 0) for name in PHASES) == 4
