"""Tokenizer, mix and model: what training reads, and that it can be repeated."""

import pytest
import torch

from actscope.core.errors import UsageError
from actscope.core.files import read_tensors
from actscope.organisms._ahead import Ahead
from actscope.organisms._mix import Mix, Stage, chunked, pack
from actscope.organisms._model import IGNORED, LanguageModel
from actscope.organisms._tokenizer import train_tokenizer
from actscope.organisms.grammar import grammar
from actscope.organisms.train import train_organism
from actscope.subjects.load import load
from actscope.training.fit import fit
from actscope.training.plan import Plan

CODE = ["def f(x):\n    return x + 12  # é, 漢字\n\n\tend", "a" * 50, "  two  spaces \r\n", "x_y.z=[1, 23]"] * 4
TEXT_WEIGHTS = {"ioi": 1.0, "addition": 1.0}


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer([*grammar(0, 150).texts(), *CODE], 600)


@pytest.fixture(scope="module")
def mix(tokenizer):
    chunks = [chunk for text in CODE for chunk in chunked(tokenizer.encode(text).ids, 64)]
    stages = [Stage(0, TEXT_WEIGHTS, (1,)), Stage(3, TEXT_WEIGHTS)]
    return Mix(tokenizer, chunks, stages, 64)


@pytest.mark.parametrize("text", [*CODE[:4], "Nest:([{}])", "\n\n", " x", "\U0001f600 1234"])
def test_decoding_gives_the_text_back(tokenizer, text: str):
    encoded = tokenizer.encode(text)
    assert encoded.ids[0] == 0 and encoded.special_tokens_mask[0] == 1
    assert tokenizer.decode(encoded.ids) == text


def test_digits_and_marks_stand_alone(tokenizer):
    pieces = tokenizer.encode("Mary 1732,(47+85)=231;").tokens[1:]
    assert pieces[-15:] == list(",(47+85)=231;")[-15:] or [piece for piece in pieces if piece.isdigit()] == list("7324785231")


def test_chunks_lose_nothing():
    ids = [0, *range(1, 200)]
    chunks = chunked(ids, 64)
    assert all(chunk[0] == 0 and len(chunk) <= 64 for chunk in chunks)
    assert [token for chunk in chunks for token in chunk[1:]] == ids[1:]


def test_packed_documents_keep_apart():
    documents = [[0, *range(1, size)] for size in (30, 20, 14, 9, 60)]
    rows = pack(documents, 2, 64)
    assert int((rows.document >= 0).sum()) == 30 + 20 + 14 + 60
    for row in range(2):
        for place in range(63):
            same = rows.document[row, place] == rows.document[row, place + 1] and rows.document[row, place] >= 0
            assert rows.targets[row, place] == (rows.ids[row, place + 1] if same else IGNORED)


def test_other_documents_of_a_row_change_nothing():
    model = LanguageModel(vocabulary=50, width=16, layers=2, heads=2, context=64, narrow=False).eval()
    first, second = [0, 5, 6, 7, 8, 9, 10], [0, 11, 12, 13]
    together = model.objective(pack([first, second], 1, 64), progress=0.0)["loss"].detach()
    alone = [model.objective(pack([document], 1, 64), progress=0.0)["loss"].detach() for document in (first, second)]
    assert float(together) == pytest.approx(float((6 * alone[0] + 3 * alone[1]) / 9), rel=1e-5)


def test_a_batch_is_a_function_of_its_number(mix):
    some = [next(mix.batches(4, seed=1, start=number)) for number in range(4)]
    running = mix.batches(4, seed=1, start=0)
    for one in some:
        assert all(torch.equal(a, b) for a, b in zip(one, next(running), strict=True))
    assert not torch.equal(some[0].ids, some[1].ids)
    assert not torch.equal(some[0].ids, next(mix.batches(4, seed=2, start=0)).ids)


def test_batches_made_ahead_are_the_same(mix):
    ahead = Ahead(mix).batches(4, seed=1, start=2)
    for one in (next(mix.batches(4, seed=1, start=number)) for number in (2, 3)):
        assert all(torch.equal(a, b) for a, b in zip(one, next(ahead), strict=True))
    ahead.close()


def test_training_lowers_the_loss_and_repeats(mix):
    plan = Plan(rows=96, batch=8, lr=3e-3)

    def trained():
        model = LanguageModel(vocabulary=600, width=32, layers=1, heads=2, context=64, narrow=False)
        return fit(model, mix, plan)

    first, second = trained(), trained()
    assert all(torch.equal(a, b) for a, b in zip(first.state().values(), second.state().values(), strict=True))
    fresh = LanguageModel(vocabulary=600, width=32, layers=1, heads=2, context=64, narrow=False).eval()
    batch = next(mix.batches(8, seed=9, start=0))
    assert first.objective(batch, progress=1.0)["loss"] < fresh.objective(batch, progress=1.0)["loss"] - 0.2
    assert int(first.steps) == 12


def test_an_unknown_organism_is_named(tmp_path):
    with pytest.raises(UsageError, match="pocket-mini"):
        train_organism("poket", tmp_path)


@pytest.mark.full
def test_one_command_trains_and_the_same_command_opens_what_is_done(tmp_path):
    library = tmp_path / "library"
    library.mkdir()
    (library / "m.py").write_text("\n".join(f"def f{n}(a):\n    return a + {n}  # {'long enough ' * 5}\n" for n in range(60)))
    first = train_organism("pocket-mini", tmp_path / "mini", scale=0.0005, root=library, compiled=False)
    weights = read_tensors(first / "model.safetensors")
    assert (first / "step-000004" / "model.safetensors").is_file()
    assert load(str(first)).prepare(["Mary"]).ids[0, 0] == 0
    again = train_organism("pocket-mini", tmp_path / "mini", scale=0.0005, root=library, compiled=False)
    assert all(torch.equal(value, weights[name]) for name, value in read_tensors(again / "model.safetensors").items())
