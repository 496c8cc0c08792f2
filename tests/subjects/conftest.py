"""Random models of odd sizes, and a tokenizer, made once."""

import zlib
from importlib.resources import files
from pathlib import Path

import pytest
import torch

from actscope.subjects.hf import HFSubject
from actscope.subjects.load import load

WEIGHTS = files("actscope").joinpath("organisms", "weights")
SHIPPED = [name for name in ("pocket", "pocket-mini") if WEIGHTS.joinpath(name, "config.json").is_file()]


def make_model(parallel: bool = True, layers: int = 3):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=300, hidden_size=36, num_hidden_layers=layers, num_attention_heads=3, intermediate_size=70, rotary_pct=0.5,
        max_position_embeddings=48, use_parallel_residual=parallel, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = GPTNeoXForCausalLM(config)
        for name, parameter in model.named_parameters():  # nothing at its trivial value: biases and norms matter
            torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0, std=0.2)
    return model.eval()


def make_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["the cat sat on the mat and the dog sat on the log\n\n  again"] * 4, trainer)
    bos = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    backend.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), bos])
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token"), "<|endoftext|>")
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


@pytest.fixture(autouse=True, scope="package")
def _one_thread():
    """Models this small run slower on two threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", params=[True, False], ids=["parallel", "sequential"])
def model(request):
    return make_model(request.param)


@pytest.fixture(scope="session", params=["parallel", "sequential", *SHIPPED])
def subject(request):
    """Every model there is to try: random ones of odd sizes, and those that ship."""
    if request.param in SHIPPED:
        return load(request.param)
    return HFSubject(make_model(request.param == "parallel"), None, "random")


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def folder(tmp_path_factory, tokenizer) -> Path:
    """A transformers folder as save_pretrained writes it."""
    path = tmp_path_factory.mktemp("model")
    make_model().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


WHOLE = (
    "gpt2",
    "gemma2",
    "llama",
    "mixtral",
    "deepseek_v3",
    "bert",
    "vit",
    "t5",
    "mamba",
)  # families whose contract runs whole


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of the families' contracts `make test` runs those of WHOLE and a third of the others', by name; `make test-full` all."""
    for item in items:
        if item.name.startswith("test_contract[") and item.path.name in ("test_families.py", "test_other_families.py"):
            family, _, check = item.name.removeprefix("test_contract[").removesuffix("]").rpartition("-")
            if family not in WHOLE and zlib.crc32(f"{family} {check}".encode()) % 3:
                item.add_marker(pytest.mark.full)
