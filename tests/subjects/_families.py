"""Small random models of every family, with sizes that do not coincide and nothing at its trivial value."""

from collections.abc import Callable
from typing import Any

import torch

SIZES = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 48}
IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
LLAMA = {**SIZES, **IDS, "intermediate_size": 44, "num_key_value_heads": 2}
WIDE = {**LLAMA, "head_dim": 12}

EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 20}
LATENT = {
    **SIZES, **IDS, "intermediate_size": 44, "num_key_value_heads": 4, "kv_lora_rank": 14, "qk_nope_head_dim": 6,
    "qk_rope_head_dim": 4, "v_head_dim": 7,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 12, "mscale": 1.0,
    "mscale_all_dim": 1.0, "beta_fast": 32, "beta_slow": 1,
}  # fmt: skip


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
    "mixtral": _of("Mixtral", WIDE, sliding_window=5, num_local_experts=6, num_experts_per_tok=2),
    "qwen2_moe": _of("Qwen2Moe", LLAMA, **EXPERTS, num_experts=6, mlp_only_layers=[1], shared_expert_intermediate_size=28),
    "qwen3_moe": _of("Qwen3Moe", WIDE, **{**EXPERTS, "num_experts_per_tok": 3}, num_experts=6, norm_topk_prob=True),
    "olmoe": _of("Olmoe", LLAMA, num_experts=6, num_experts_per_tok=2),
    "deepseek_v2": _of(
        "DeepseekV2",
        LATENT,
        **EXPERTS,
        n_routed_experts=6,
        n_shared_experts=2,
        first_k_dense_replace=1,
        q_lora_rank=None,
        n_group=3,
        topk_group=2,
        topk_method="group_limited_greedy",
        routed_scaling_factor=1.7,
    ),
    "deepseek_v3": _of(
        "DeepseekV3",
        LATENT,
        **EXPERTS,
        n_routed_experts=6,
        first_k_dense_replace=1,
        q_lora_rank=18,
        n_group=3,
        topk_group=2,
        rope_parameters=YARN,
        num_nextn_predict_layers=0,
    ),
    "gpt2": _of("GPT2", SIZES, **{"bos_token_id": 0, "eos_token_id": 0}, n_inner=44),
}
