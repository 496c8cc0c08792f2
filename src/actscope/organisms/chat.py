"""A small instruct model: pocket-mini, taught to read whole blocks of text and then to answer in turns.

    1. pocket-mini and its tokenizer, with three special tokens more: <|user|>, <|assistant|>, <|end|>.
    2. Pretraining goes on for a while in blocks, as language models are mostly trained: documents joined end to end, cut every
       `context` tokens, with attention from each to all before it.
    3. Fine-tuning on dialogues, one at a time: nothing stands before a dialogue, and the loss is that of the assistant's words.

The grammar and the standard library give the text, `dialogues` the turns. Letters: b rows, t tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from actscope.core import files
from actscope.core.corpus import Corpus
from actscope.core.progress import Progress, quiet
from actscope.corpora.mixture import mixture
from actscope.corpora.standard_library import standard_library
from actscope.organisms._mix import pack
from actscope.organisms._model import IGNORED, LanguageModel, Rows
from actscope.organisms._tokenizer import BOS
from actscope.organisms.dialogues import ASSISTANT, END, USER, dialogues
from actscope.organisms.grammar import grammar
from actscope.subjects.hf import HFSubject
from actscope.subjects.load import load
from actscope.training.fit import fit
from actscope.training.plan import Plan

__all__ = ["chat"]

TEMPLATE = (
    f"{BOS}{{% for message in messages %}}{{{{ '<|' + message['role'] + '|>' + message['content'] + '{END}' }}}}{{% endfor %}}"
)
_BATCH = 16  # rows a step
_RATE = 2e-3


def chat(
    *, seed: int = 0, blocks: int = 1000, rows: int = 3200, out: Path | str | None = None, progress: Progress = quiet
) -> HFSubject:
    """The model, trained now: about a minute on one core.

    seed: of the text, the dialogues and the new tokens' vectors. blocks: of text seen in step 2; rows: of whole dialogues seen
    in step 3, each of pocket-mini's context. out: a folder to keep it in, which `load` opens. Two calls give the same weights.
    """
    base = load("pocket-mini")
    tokenizer = base.tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": [USER, ASSISTANT, END]})
    tokenizer.chat_template = TEMPLATE
    model = _grown(base, len(tokenizer), seed)
    reading = _in_blocks(token_ids(tokenizer, pretraining(seed, blocks), blocks * base.context), base.context)
    talking = _by_dialogue(tokenizer, seed, rows, base.context)
    for number, (source, seen) in enumerate(((reading, blocks), (talking, rows))):
        plan = Plan(rows=seen, batch=_BATCH, lr=_RATE, decay=0.5, seed=seed + number)
        fit(model, source, plan, progress=progress)
    model.model.requires_grad_(False)
    if out is not None:
        _save(model, tokenizer, Path(out))
    return HFSubject(model.model, tokenizer, "pocket-chat")


def pretraining(seed: int, documents: int) -> Corpus:
    """Two texts of the grammar to each of the standard library, as pocket-mini was trained on."""
    return mixture([(grammar(seed, 4 * documents + 1000), 2.0), (standard_library(split="train"), 1.0)], seed=seed)


def token_ids(tokenizer: PreTrainedTokenizerFast, corpus: Corpus, least: int) -> Int[Tensor, " t"]:
    """The tokens of a corpus end to end, each document behind its first special token: at least so many, or all."""
    found: list[int] = []
    for document in corpus.documents():
        if len(found) >= least:
            break
        found += tokenizer.backend_tokenizer.encode(document.text).ids
    return torch.tensor(found)


@dataclass(frozen=True)
class _Shuffled:
    """Rows in an order drawn for each pass, as a source for the training loop."""

    rows: Rows
    identity: str

    def batches(self, size: int, *, seed: int, start: int) -> Iterator[Rows]:
        """One pass, from batch number `start` on."""
        order = torch.randperm(len(self.rows.ids), generator=torch.Generator().manual_seed(seed))
        for index in order.split(size)[start:]:
            if len(index) == size:
                yield Rows(*(value[index] for value in self.rows))


def _grown(base: HFSubject, vocabulary: int, seed: int) -> LanguageModel:
    """The base model with room for more tokens: their vectors begin at the mean of all others, and a little beside it."""
    config = base.model.config
    model = LanguageModel(
        vocabulary=vocabulary, width=config.hidden_size, layers=config.num_hidden_layers, heads=config.num_attention_heads,
        context=config.max_position_embeddings, seed=seed, narrow=False,
    )  # fmt: skip
    old, new = base.weights(), model.weights()
    with torch.no_grad():
        for name, value in new.items():
            value[: len(old[name])] = old[name]
            value[len(old[name]) :] += old[name].mean(0)
    return model


def _in_blocks(ids: Int[Tensor, " t"], context: int) -> _Shuffled:
    """Step 2: blocks without regard to where documents end."""
    blocks = ids[: len(ids) // context * context].view(-1, context)
    targets = torch.full_like(blocks, IGNORED)
    targets[:, :-1] = blocks[:, 1:]
    positions = torch.arange(context).expand_as(blocks)
    return _Shuffled(Rows(blocks, targets, torch.zeros_like(blocks), positions), "blocks")


def _by_dialogue(tokenizer: PreTrainedTokenizerFast, seed: int, rows: int, context: int) -> _Shuffled:
    """Step 3: rows of whole dialogues that do not see each other."""
    each: list[Sequence[int]] = []
    room = rows * context
    for document in dialogues(seed, 1 << 30).documents():
        words = tokenizer.backend_tokenizer.encode(document.text).ids
        if len(words) <= context:
            each.append(words)
            room -= len(words)
        if room < 0:
            break
    packed = pack(each, rows, context)
    ids: dict[str, int] = tokenizer.get_vocab()
    said = _answering(packed.ids, ids[USER], ids[ASSISTANT], ids[END])
    return _Shuffled(packed._replace(targets=torch.where(said, packed.targets, IGNORED)), "dialogues")


def _answering(ids: Int[Tensor, "b t"], user: int, assistant: int, end: int) -> Bool[Tensor, "b t"]:
    """Where the next token is the assistant's: from its role token on, to the last of its words."""
    place = torch.arange(ids.shape[1]).expand_as(ids) + 1
    role = torch.where((ids == user) | (ids == assistant) | (ids == end), place, 0).cummax(1).values
    return (role > 0) & (ids.gather(1, (role - 1).clamp(min=0)) == assistant)


def _save(model: LanguageModel, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """A transformers folder."""
    files.write_tensors(out / "model.safetensors", dict(model.weights()))
    files.write_text(out / "config.json", model.model.config.to_json_string())
    files.write_text(out / "tokenizer.json", tokenizer.backend_tokenizer.to_str(pretty=True))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": BOS, "eos_token": END, "unk_token": BOS, "pad_token": BOS,
        "additional_special_tokens": [USER, ASSISTANT, END], "model_max_length": model.settings["context"],
        "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE,
    }  # fmt: skip
    files.write_json(out / "tokenizer_config.json", config)
