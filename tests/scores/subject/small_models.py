"""Subjects whose measures are known: one whose sites hold what it is told, and small random transformers."""

import torch
from torch import Tensor

from actscope.core.inputs import SPECIAL, TEXT, Inputs, Run
from actscope.core.site import Site, SiteInfo
from actscope.corpora.texts import texts
from actscope.scores._parts.passages import Passages
from actscope.subjects.hf import HFSubject

WORDS = ["the", "a", "cat", "dog", "sat", "ran", "on", "under", "mat", "log", "and", "then", "it", "was", "red", "blue"]


class Told:
    """A subject over letters (ids 1 to 26 after a special 0) whose sites hold what `acts` makes of the ids [b t]."""

    name, fingerprint, context, causal = "told", "f" * 64, 64, True
    missing: dict = {}

    def __init__(self, acts: dict, causal: bool = True):
        self.acts, self.causal = {Site.parse(name): made for name, made in acts.items()}, causal
        ids = torch.zeros(1, 2, dtype=torch.long)
        self.sites = {
            site: SiteInfo(tuple("bt"[i] if i < 2 else n for i, n in enumerate(f(ids).shape)), "", "out")
            for site, f in self.acts.items()
        }
        self.order = list(self.sites)

    def prepare(self, raw):
        rows = [[0, *(1 + ord(letter) - ord("a") for letter in text)] for text in raw]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        mask = torch.arange(longest) < torch.tensor([[len(row)] for row in rows])
        return Inputs(ids=ids, mask=mask, roles=torch.where(ids > 0, TEXT, SPECIAL))

    def pieces(self, ids):
        return ["<s>" if i == 0 else chr(ord("a") + int(i) - 1) for i in ids]

    def run(self, inputs, *, read=(), **given):
        return Run(None, {site: self.acts[site](inputs.ids) for site in read})

    def weights(self):
        return {}

    def changed(self, change):
        raise NotImplementedError


def passages(subject, listed: list[str]) -> Passages:
    return Passages.of(subject, texts(listed))


def tokenizer():
    """Whole words, after a special token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(["<|endoftext|>", *WORDS])}
    backend = Tokenizer(models.WordLevel(ids, unk_token="<|endoftext|>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def network(layers: int = 3, *, idle: tuple[int, ...] = (), deaf: bool = False, seed: int = 1):
    """A random transformer. idle: layers that add nothing; deaf: no attention adds anything."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(
        vocab_size=len(WORDS) + 1, hidden_size=16, num_hidden_layers=layers, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, bos_token_id=0, eos_token_id=0, hidden_act="relu", use_parallel_residual=False,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPTNeoXForCausalLM(config)
        for name, parameter in model.named_parameters():
            torch.nn.init.normal_(parameter, mean=1.0 if "norm" in name and "weight" in name else 0.0, std=0.5)
    with torch.no_grad():
        for number, layer in enumerate(model.gpt_neox.layers):
            silent: list[Tensor] = [*layer.attention.dense.parameters()] if deaf or number in idle else []
            silent += [*layer.mlp.dense_4h_to_h.parameters()] if number in idle else []
            for parameter in silent:
                parameter.zero_()
    return model


def subject(**given) -> HFSubject:
    return HFSubject(network(**given), tokenizer(), "small")


def sentences(n: int, words: int = 20, seed: int = 0) -> list[str]:
    draw = torch.Generator().manual_seed(seed)
    return [" ".join(WORDS[i] for i in torch.randint(len(WORDS), (words,), generator=draw).tolist()) for _ in range(n)]
