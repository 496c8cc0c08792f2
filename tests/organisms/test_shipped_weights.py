"""The weights in the package reach their bars on a small sample of held-out prompts.

The whole table is `actscope organism eval`.
"""

import json
from importlib.resources import files

import pytest
import torch
from transformers import GPTNeoXForCausalLM

from actscope.core import methods
from actscope.core.files import read_tensors
from actscope.core.task import Example
from actscope.organisms.evaluate import BARS, accuracy, evaluate
from actscope.subjects.load import load

WEIGHTS = files("actscope").joinpath("organisms", "weights")
SLACK = 0.05  # of a sample of 60


@pytest.fixture(scope="module")
def pocket():
    return load("pocket")


@pytest.mark.parametrize("rule", sorted(BARS))
def test_pocket_reaches_the_bar(pocket, rule: str):
    (score,) = evaluate(pocket, n=60, seed=11, documents=0, rules=[rule])
    assert score.value >= BARS[rule] - SLACK, score
    assert score.control is not None and score.control < score.value - 0.2, "the corrupted twins are not answered so"


def test_frequent_facts_are_known_and_rare_ones_are_not(pocket):
    (score,) = evaluate(pocket, n=200, seed=5, documents=0, rules=["facts"])
    assert score.parts["frequency 1-32"] > score.parts["frequency 129-512"] > score.parts["frequency 513-2304"]


def test_the_stored_table_meets_the_issue():
    table = json.loads(WEIGHTS.joinpath("pocket", "truth.json").read_text())["scores"]
    for rule, bar in BARS.items():
        assert table[rule]["value"] >= bar, rule
    assert table["text"]["value"] < table["text"]["control"], "bits per byte below the 5-gram's"


def test_a_wrong_answer_is_wrong(pocket):
    task = methods.find("tasks", "ioi")()  # type: ignore[operator]
    examples = task.examples(20, seed=0, split="test")
    assert sum(accuracy(pocket, task, [Example(e.prompt, e.wrong, e.answers) for e in examples])) == 0


def test_weights_are_half_precision_and_small():
    sizes = {}
    for name in ("pocket", "pocket-mini"):
        found = [path for path in _files(WEIGHTS.joinpath(name)) if path.name == "model.safetensors"]
        assert all(value.dtype == torch.float16 for path in found for value in read_tensors(str(path)).values())
        sizes[name] = sum(len(path.read_bytes()) for path in _files(WEIGHTS.joinpath(name)))
    assert sizes["pocket"] <= 16e6 and sizes["pocket-mini"] <= 8e6


def test_mini_has_a_dozen_checkpoints_and_learns(pocket):
    steps = sorted(path.name for path in WEIGHTS.joinpath("pocket-mini").iterdir() if path.name.startswith("step-"))
    assert len(steps) >= 11
    text = "When Mary and John went to the store, John gave the book to"
    losses = []
    for name in (f"pocket-mini@{int(steps[0][5:])}", f"pocket-mini@{int(steps[6][5:])}", "pocket-mini"):
        mini = load(name)
        ids = mini.prepare([text]).ids
        losses.append(float(torch.nn.functional.cross_entropy(mini.run(ids).logits[0, :-1], ids[0, 1:])))
    assert losses[0] > losses[1] > losses[2]


def test_transformers_opens_it():
    model = GPTNeoXForCausalLM.from_pretrained(str(WEIGHTS.joinpath("pocket")), dtype=torch.float32)
    ids = load("pocket").prepare(["Mary counts: Monday, Tuesday,"]).ids
    assert load("pocket").pieces([int(model(ids).logits[0, -1].argmax())]) == [" Wednesday"]


def test_training_hashes_leave_out_what_was_held(tmp_path):
    hashes = read_tensors(str(WEIGHTS.joinpath("pocket", "training.safetensors")))["hashes"]
    assert len(hashes) > 10_000 and bool((hashes[1:] > hashes[:-1]).all())
    assert not ((hashes.apply_(lambda value: (value + 2**63) % 20)) == 0).any(), "one in twenty is held out"


def _files(folder):
    for path in folder.iterdir():
        yield from _files(path) if path.is_dir() else [path]
