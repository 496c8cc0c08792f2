"""Every site of the table that the family has is there, under the model's own names; what it lacks says why."""

import pytest
import torch

from actscope.core.errors import UnknownSite
from actscope.core.site import LAYER_KINDS, WHOLE_KINDS, Site
from actscope.subjects.hf import HFSubject

ALWAYS = (
    "resid_pre", "attn_norm_scale", "attn_in", "q", "k", "v", "q_rot", "k_rot", "attn_scores", "attn_pattern", "z", "attn_out",
    "attn_add", "mlp_norm_scale", "mlp_in", "mlp_pre", "mlp_post", "mlp_out", "mlp_add", "resid_post",
)  # fmt: skip


def test_no_site_of_the_table_is_missing_unsaid(model):
    subject = HFSubject(model)
    kinds = [*ALWAYS, *(() if model.config.use_parallel_residual else ("resid_mid",))]
    expected = {Site(kind, layer) for kind in kinds for layer in range(3)} | {Site(kind) for kind in WHOLE_KINDS}
    assert set(subject.sites) == set(subject.order) == expected
    assert set(subject.missing) == set(LAYER_KINDS) - set(kinds), "a kind is neither there nor said to be missing"
    assert all(subject.missing.values())


def test_the_order_is_the_order_of_computation(model):
    subject = HFSubject(model)
    ran: list[str] = []
    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(lambda _m, _a, path=path: ran.append(f"{path}:in")))
        handles.append(module.register_forward_hook(lambda _m, _a, _o, path=path: ran.append(f"{path}:out")))
    subject.run(torch.arange(6)[None])
    for handle in handles:
        handle.remove()
    places = [f"{tap.info.module}:{tap.side}" for tap in subject.taps.values() if tap.side in ("in", "out")]
    places = list(dict.fromkeys(places))
    assert [ran.index(place) for place in places] == sorted(ran.index(place) for place in places)


def test_queries_keys_and_values_are_split_as_the_model_splits_them(model):
    """Computed by hand from the weights of the fused product."""
    subject = HFSubject(model)
    acts = subject.run(torch.arange(7)[None], read=["layers.1.attn_in", "layers.1.q", "layers.1.k", "layers.1.v"]).acts
    fused = model.gpt_neox.layers[1].attention.query_key_value
    weight, bias = fused.weight.reshape(3, 3, 12, 36), fused.bias.reshape(3, 3, 12)  # head, one of q k v, width
    for index, kind in enumerate("qkv"):
        by_hand = torch.einsum("btd,hwd->bthw", acts[Site("attn_in", 1)], weight[:, index]) + bias[:, index]
        torch.testing.assert_close(acts[Site(kind, 1)], by_hand.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("layers.1.mlp_out", Site("mlp_out", 1)),
        ("blocks.1.hook_mlp_out", Site("mlp_add", 1)),
        ("blocks.2.attn.hook_z", Site("z", 2)),
        ("mlp_out.2", Site("mlp_out", 2)),
        ("gpt_neox.layers.1", Site("resid_post", 1)),
        ("gpt_neox.layers.0.input_layernorm", Site("attn_in", 0)),
        ("gpt_neox.embed_in", Site("embed")),
        ("layers.0.z[2]", Site("z", 0, 2)),
    ],
)
def test_other_dialects_name_the_same_sites(model, name: str, site: Site):
    assert list(HFSubject(model).run(torch.arange(5)[None], read=[name]).acts) == [site]


def test_a_pattern_is_expanded(model):
    run = HFSubject(model).run(torch.arange(5)[None], read=["layers.*.resid_post"])
    assert list(run.acts) == [Site("resid_post", layer) for layer in range(3)]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("layers.1.mlp_outt", "mlp_out"),
        ("layers.7.mlp_out", "layers.0.mlp_out|layers.1.mlp_out|layers.2.mlp_out"),
        ("layers.1.router", "no experts"),
        ("layers.1.z[3]", "3 parts"),
        ("module:gpt_neox.layers.9:out", "no module"),
    ],
)
def test_a_miss_names_what_is_near_or_why(model, name: str, says: str):
    with pytest.raises(UnknownSite, match=says):
        HFSubject(model).run(torch.arange(5)[None], read=[name])


def test_resid_mid_says_why_it_is_not_there():
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    config = GPTNeoXConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    with pytest.raises(UnknownSite, match="parallel residual"):
        HFSubject(GPTNeoXForCausalLM(config)).run(torch.arange(5)[None], read="layers.0.resid_mid")
