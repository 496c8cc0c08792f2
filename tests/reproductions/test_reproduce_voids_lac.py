"""The reproduction of voids on a small scale: its figures mean what they say."""

import pytest
import torch

from actscope.reproductions.voids_lac import f1, voids_lac


def test_f1_weighs_what_is_missed_and_what_is_wrong():
    said, true = torch.tensor([1, 1, 1, 0, 0]).bool(), torch.tensor([1, 1, 0, 1, 0]).bool()
    assert f1(said, true) == pytest.approx(2 * 2 / (3 + 3))  # precision and recall are both 2/3
    assert f1(~said & said, true) == 0 and f1(true, true) == 1


def test_idle_layers_are_found_and_skipped_without_loss():
    result = voids_lac(seeds=(0,), growths=(2.0,), rows=7_680, judged=100)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert result.holds and result.ours == mean["voids skipped"] and result.baseline == mean["whole"] > 0.95
    assert result.control == mean["random skipped"] < 0.8 and mean["F1 of random layers"] < 0.6
    assert mean["F1"] > 0.95 and mean["F1 by layer"] == 1 and mean["idle layers skipped"] > 0.95
    assert mean["void share, prompt"] == pytest.approx(0.4, abs=0.05)  # 4 of the 10 layers idle there
