"""Small random models that are not causal decoders, with sizes that do not coincide and nothing at its trivial value."""

from collections.abc import Callable
from typing import Any

import torch

TEXT = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 48,
    "intermediate_size": 44,
}  # fmt: skip
IMAGES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": (8, 12), "patch_size": 4}
SQUARE = {**IMAGES, "image_size": 12}
DISTIL = {"vocab_size": 300, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 44, "max_position_embeddings": 48}
STACKS = {
    "vocab_size": 300, "d_model": 32, "d_kv": 6, "d_ff": 44, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0,
    "relative_attention_num_buckets": 6, "relative_attention_max_distance": 9,
}  # fmt: skip
STATES = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 5, "time_step_rank": 3}


def made(name: str) -> Any:
    """The model of an entry."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = OTHERS[name]()
        for path, parameter in model.named_parameters():
            norm = "norm" in path.lower() and path.endswith("weight")
            spread = 0.1 if name.startswith("t5") else 0.2  # its scores are not scaled: larger ones would make last bits count
            torch.nn.init.normal_(parameter, mean=1.0 if norm else 0.0, std=spread)
    return model.eval().requires_grad_(False)


def _of(config: str, kind: str, settings: dict, **more: object) -> Callable[[], Any]:
    def make() -> Any:
        import transformers

        return getattr(transformers, kind)(getattr(transformers, f"{config}Config")(**settings, **more))

    return make


OTHERS: dict[str, Callable[[], Any]] = {  # entry -> its model; the family is what stands before the colon
    "bert": _of("Bert", "BertForMaskedLM", TEXT),
    "bert:below the head": _of("Bert", "BertModel", TEXT),
    "roberta": _of("Roberta", "RobertaForMaskedLM", TEXT, pad_token_id=1),
    "distilbert": _of("DistilBert", "DistilBertForMaskedLM", DISTIL),
    "vit": _of("ViT", "ViTForImageClassification", IMAGES, intermediate_size=44, num_labels=7),
    "vit:below the head": _of("ViT", "ViTModel", SQUARE, intermediate_size=44),
    "dinov2": _of("Dinov2", "Dinov2ForImageClassification", SQUARE, mlp_ratio=2, num_labels=7),
    "dinov2:gated": _of("Dinov2", "Dinov2Model", SQUARE, mlp_ratio=2, use_swiglu_ffn=True),
    "clip_vision_model": _of("CLIPVision", "CLIPVisionModel", SQUARE, intermediate_size=44),
    "clip_vision_model:projected": _of("CLIPVision", "CLIPVisionModelWithProjection", SQUARE, intermediate_size=44),
    "t5": _of("T5", "T5ForConditionalGeneration", STACKS, num_decoder_layers=3, feed_forward_proj="gated-gelu"),
    "t5:below the head": _of("T5", "T5Model", STACKS, num_decoder_layers=2),
    "t5:encoder": _of("T5", "T5EncoderModel", STACKS),
    "mamba": _of("Mamba", "MambaForCausalLM", STATES),
}
