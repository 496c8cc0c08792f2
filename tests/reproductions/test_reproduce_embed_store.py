"""The reproduction of the embedding-storage study on a small scale: its figures mean what they say."""

import email
from pathlib import Path

import pytest
import torch

import actscope as act
from actscope.corpora.standard_library import standard_library
from actscope.reproductions import embed_store as module
from actscope.reproductions.embed_store import embed_store


@pytest.fixture(scope="module")
def pocket():
    return act.load("pocket")


@pytest.fixture
def few(monkeypatch):
    """One package of the library alone."""
    library = standard_library(Path(email.__file__).parent, "all")
    monkeypatch.setattr(module, "standard_library", lambda split: library)
    return library


def test_the_two_halves_are_those_of_one_function(pocket, few):
    library = few
    passages = module._passages(pocket, library, 24, 12)
    assert passages.shape == (12, 2, 25) and (passages[:, :, 0] == passages[0, 0, 0]).all()
    texts = [document.text for document in library.documents()]
    for first, second in passages[:, :, 1:].tolist():
        joined = "".join(pocket.pieces(first + second))
        assert any(text.startswith(joined.rstrip("\ufffd")) for text in texts)


def test_relevant_is_the_passage_with_the_query_s_number():
    x = torch.eye(12)
    assert module._gain(x, x, None, "float32") == pytest.approx(1.0)
    assert module._gain(x, x.roll(1, 0), None, "float32") < 0.7


def test_errors_are_those_of_the_formats():
    """float8's does not depend on the width; that of 256 steps from -1 to 1 is the root of the width times one step's."""
    draw = torch.Generator().manual_seed(0)
    for width in (64, 256, 1024):
        x = torch.randn(500, width, generator=draw)
        assert module._error(x, "float8") == pytest.approx(0.0265, rel=0.05)
        assert module._error(x, "int8_raw") == pytest.approx(width**0.5 * (2 / 255) / 12**0.5, rel=0.05)


def test_formats_are_compared_on_embeddings_chosen_elsewhere(few):
    result = embed_store(seeds=(0,), documents=150, choosing=60, tokens=24)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert mean["functions"] == 150 and mean["layer"] in range(4) and 0.1 < mean["nDCG in single precision"] < 1
    assert result.ours == mean["lost by float8"] and result.baseline == mean["lost by int8 uncalibrated"]
    assert abs(result.control) < 0.005 and result.control == mean["lost by float16"]
    assert mean["lost by half of random directions float8"] > mean["lost by half float8"]
    assert mean["error of int8 calibrated"] < mean["error of float8"]
    assert 1 > mean["agreement of int8 calibrated"] > mean["agreement of float8"] > 0.5
    assert (mean["width"], mean["width of all layers"], mean["width of neurons"]) == (128, 512, 2048)
    assert mean["lost by float8 with the mean left in"] > mean["lost by float8"] + 0.05
    assert result.holds == (result.baseline > max(result.ours, mean["lost by half float8"]))
