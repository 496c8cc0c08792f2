"""A family without a file: its sites are found by structure, proven, or refused with the reason."""

from typing import Any

import pytest
import torch
from tests.subjects._families import made

from actscope.core import methods
from actscope.core.errors import NotAModel
from actscope.core.site import Site
from actscope.subjects import _unknown
from actscope.subjects import verify as verify_module
from actscope.subjects.anatomy import _structure
from actscope.subjects.hf import HFSubject
from actscope.subjects.load import load
from actscope.subjects.verify import verify

BASE = {
    "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 48,
    "intermediate_size": 44, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0,
}  # fmt: skip
WRITTEN = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "gpt2")
REQUIRED = {
    "resid_pre", "attn_in", "q", "k", "v", "attn_scores", "attn_pattern", "z", "attn_out", "attn_add", "mlp_pre", "mlp_post",
    "mlp_out", "mlp_add", "resid_post",
}  # fmt: skip
NORMED = {"attn_norm_scale", "mlp_norm_scale", "mlp_in"}
# family -> what it has beside the required sites: post-norms, parallel blocks, shared norms and no gates are all among them
UNKNOWN: dict[str, set[str]] = {
    "Starcoder2": {*NORMED, "q_rot", "k_rot", "resid_mid"},
    "Phi": {"attn_norm_scale", "mlp_in", "q_rot", "k_rot"},
    "StableLm": {*NORMED, "q_rot", "k_rot", "resid_mid", "mlp_up"},
    "Olmo": {*NORMED, "q_rot", "k_rot", "resid_mid", "mlp_up"},
    "Cohere": {"attn_norm_scale", "mlp_in", "q_rot", "k_rot", "mlp_up"},
    "Cohere2": {"attn_norm_scale", "mlp_in", "q_rot", "k_rot", "mlp_up"},
    "Nemotron": {*NORMED, "q_rot", "k_rot", "resid_mid"},
    "Glm": {*NORMED, "q_rot", "k_rot", "resid_mid", "mlp_up"},
    "Glm4": {*NORMED, "q_rot", "k_rot", "resid_mid", "mlp_up"},
    "SmolLM3": {*NORMED, "q_rot", "k_rot", "resid_mid", "mlp_up"},
    "Exaone4": {"q_rot", "k_rot", "resid_mid", "mlp_up"},
    "Helium": {*NORMED, "q_rot", "k_rot", "resid_mid", "mlp_up"},
    "Olmo3": {"q_rot", "k_rot", "resid_mid", "mlp_up"},
    "BioGpt": {*NORMED, "resid_mid"},
    "Ernie4_5": {*NORMED, "q_rot", "k_rot", "resid_mid", "mlp_up"},
    "Arcee": {*NORMED, "q_rot", "k_rot", "resid_mid"},
    "SeedOss": {*NORMED, "q_rot", "k_rot", "resid_mid", "mlp_up"},
}
QUICK = ("Phi",)


def unknown(kind: str, **more: object) -> Any:
    """A small random model of a family that has no file."""
    import transformers

    head = {"head_dim": 8} if kind in ("Glm", "Glm4", "Helium", "SeedOss") else {}
    config = getattr(transformers, f"{kind}Config")(**BASE, **head, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
        for path, parameter in model.named_parameters():
            norm = "norm" in path and "weight" in path
            torch.nn.init.normal_(parameter, mean=1.0 if norm else 0.0, std=0.2)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("family", WRITTEN)
def test_what_is_found_is_what_is_written(family):
    model = made(family)
    written, found = HFSubject(model), _unknown.found(model)
    assert list(found.taps) == list(written.order) and dict(found.missing) == dict(written.missing)
    assert found.windows == written.anatomy.windows and found.attention == written.anatomy.attention
    other = HFSubject(model)
    other.taps, other.anatomy = found.taps, found
    ids = torch.arange(24).view(2, 12)
    for site in written.order:
        one, two = (subject.run(ids, read=[site]).acts[site] for subject in (written, other))
        assert torch.allclose(one, two, atol=1e-6), site


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.full]) for kind in UNKNOWN])
def test_an_unknown_family_offers_the_required_sites_and_each_is_proven(kind):
    subject = HFSubject(unknown(kind))
    assert subject.model.config.model_type not in methods.names("subjects.anatomy")
    kinds = {site.kind for site in subject.order if site.layer is not None}
    assert kinds == REQUIRED | UNKNOWN[kind]
    assert {Site("embed"), Site("final_norm"), Site("final_norm_scale"), Site("logits")} <= set(subject.sites)
    assert {site.layer for site in subject.order if site.kind == "z"} == set(range(4))
    layers = [1] if kind in QUICK else None  # the others were proven when it was opened
    wrong = [(str(one.site), one.why) for one in verify(subject, layers=layers) if not one.holds]
    assert not wrong


@pytest.mark.full
def test_an_unknown_family_opens_from_its_folder(tmp_path):
    model = unknown("Starcoder2")
    model.save_pretrained(tmp_path)
    ids = torch.arange(12).view(2, 6)
    assert torch.equal(load(tmp_path).run(ids).logits, HFSubject(model).run(ids).logits)
    with pytest.raises(NotAModel, match="float32"):
        load(tmp_path, dtype="bfloat16")


@pytest.mark.parametrize(
    ("kind", "more", "why"),
    [
        ("Granite", {"residual_multiplier": 0.2}, "a factor may stand between"),
        ("Bloom", {}, "common attention function"),
        ("GPTBigCode", {}, "attn_pattern.*eager"),
        ("OlmoHybrid", {}, "structure"),
    ],
)
def test_what_cannot_be_found_or_proven_is_refused_with_the_reason(kind, more, why):
    with pytest.raises(NotAModel, match=why) as told:
        HFSubject(unknown(kind, **more))
    assert kind.lower()[:3] in str(told.value) and "act.wrap" in str(told.value)


def test_a_wrong_guess_is_refused(monkeypatch):
    inner = _structure.structured

    def wrong(model):
        found = inner(model)
        taps = dict(found.taps)
        for layer in range(4):
            one, other = Site("mlp_pre", layer), Site("mlp_up", layer)
            taps[one], taps[other] = taps[other], taps[one]
        return type(found)(**{**vars(found), "taps": taps})

    monkeypatch.setattr("actscope.subjects._unknown.structured", wrong)
    with pytest.raises(NotAModel, match="mlp_"):
        HFSubject(unknown("StableLm"))


def test_only_three_layers_are_tried_when_it_is_opened(monkeypatch):
    seen: list[set[int]] = []
    inner = verify_module.verify
    monkeypatch.setattr(
        "actscope.subjects._unknown.verify",
        lambda subject, **given: seen.append(set(given["layers"])) or inner(subject, **given),
    )
    HFSubject(unknown("Arcee"))
    assert seen == [{0, 2}]  # and the last, always
