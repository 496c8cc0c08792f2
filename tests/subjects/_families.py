"""Small random models of every family, with sizes that do not coincide and nothing at its trivial value."""

from collections.abc import Callable
from typing import Any

import torch

SIZES = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 48}
IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
LLAMA = {**SIZES, **IDS, "intermediate_size": 44, "num_key_value_heads": 2}
WIDE = {**LLAMA, "head_dim": 12}


def made(name: str) -> Any:
    """The model of a family, by the name of its file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = FAMILIES[name]()
        for path, parameter in model.named_parameters():
            norm = "norm" in path or ".ln_" in path
            torch.nn.init.normal_(parameter, mean=1.0 if norm and "weight" in path and "gemma" not in name else 0.0, std=0.2)
    return model.eval().requires_grad_(False)


def _of(kind: str, settings: dict, **more: object) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        config = getattr(transformers, f"{kind}Config")(**settings, **more)
        model = {"Gemma3Text": "Gemma3ForCausalLM", "GPT2": "GPT2LMHeadModel"}.get(kind, f"{kind}ForCausalLM")
        return getattr(transformers, model)(config)

    return make


FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": _of("Llama", WIDE, attention_bias=True),
    "mistral": _of("Mistral", WIDE, sliding_window=5),
    "qwen2": _of("Qwen2", LLAMA),
    "qwen3": _of("Qwen3", WIDE),
    "gemma": _of("Gemma", WIDE),
    "gemma2": _of(
        "Gemma2", WIDE, sliding_window=5, attn_logit_softcapping=2.0, final_logit_softcapping=8.0, query_pre_attn_scalar=7
    ),
    "gemma3_text": _of("Gemma3Text", WIDE, sliding_window=5, query_pre_attn_scalar=7),
    "phi3": _of("Phi3", LLAMA),
    "olmo2": _of("Olmo2", LLAMA),
    "opt": _of("OPT", {**SIZES, **IDS}, ffn_dim=44, word_embed_proj_dim=32),
    "gptj": _of("GPTJ", {**SIZES, "bos_token_id": 0, "eos_token_id": 0}, n_inner=44, rotary_dim=4),
    "gpt2": _of("GPT2", SIZES, **{"bos_token_id": 0, "eos_token_id": 0}, n_inner=44),
}
