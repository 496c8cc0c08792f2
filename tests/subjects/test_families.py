"""Every family offers every site it has, through its own file, and each one is right."""

import pytest
import torch
from tests.subjects._families import FAMILIES, made
from tests.subjects._other_families import OTHERS

from actscope.checks.check_subject import CHECKS, check_subject
from actscope.core import methods
from actscope.core.site import LAYER_KINDS, WHOLE_KINDS, Site
from actscope.subjects.hf import HFSubject
from actscope.subjects.load import load

EVERY = (
    "resid_pre", "attn_in", "q", "k", "v", "attn_scores", "attn_pattern", "z", "attn_out", "attn_add", "resid_mid", "mlp_pre",
    "mlp_post", "mlp_out", "mlp_add", "resid_post",
)  # fmt: skip
NORMS = ("attn_norm_scale", "mlp_norm_scale", "mlp_in")
TURNED, GATED = ("q_rot", "k_rot"), ("mlp_up",)
MORE = {name: (*NORMS, *TURNED, *GATED) for name in FAMILIES}
ROUTED = ("router", "router_weight", "expert_out")
EXPERTS = {  # family -> what its layers with experts have in place of MLP, and the layers with one MLP
    "mixtral": (ROUTED, ()), "qwen2_moe": ((*ROUTED, "shared_out", "shared_gate"), (1,)), "qwen3_moe": (ROUTED, ()),
    "olmoe": (ROUTED, ()), "deepseek_v2": ((*ROUTED, "shared_out"), (0,)), "deepseek_v3": ((*ROUTED, "shared_out"), (0,)),
}  # fmt: skip
MLP = ("mlp_pre", "mlp_up", "mlp_post")
LACKS = {"gptj": ("resid_mid",), "deepseek_v2": ("k",), "deepseek_v3": ("k",)}
MORE |= {"olmo2": (*TURNED, *GATED), "gpt2": NORMS, "opt": NORMS, "gptj": ("attn_norm_scale", "mlp_in", *TURNED)}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> tuple[str, HFSubject]:
    return request.param, HFSubject(made(request.param))


def test_every_family_file_is_tried():
    others = {name.partition(":")[0] for name in OTHERS}
    assert set(methods.names("subjects.anatomy")) == {*FAMILIES, *others, "gpt_neox"}


def test_no_site_is_missing_unsaid(family):
    name, subject = family
    kinds = {*EVERY, *MORE[name]} - {*LACKS.get(name, ())}
    routed, plain = EXPERTS.get(name, ((), range(3)))
    each = [kinds if layer in plain else kinds - {*MLP} | {*routed} for layer in range(3)]
    expected = {Site(kind, layer) for layer in range(3) for kind in each[layer]} | {Site(kind) for kind in WHOLE_KINDS}
    assert set(subject.sites) == expected
    assert set(subject.missing) == set(LAYER_KINDS) - set.intersection(*each) and all(subject.missing.values())


def test_a_folder_of_it_is_opened_and_computes_the_same(family, tmp_path):
    _, subject = family
    subject.model.save_pretrained(tmp_path)
    opened = load(tmp_path)
    ids = torch.arange(12).view(2, 6)
    assert torch.equal(opened.run(ids).logits, subject.run(ids).logits)
    assert opened.fingerprint == subject.fingerprint and list(opened.sites) == list(subject.sites)


def test_the_order_is_the_order_of_computation(family):
    _, subject = family
    ran: list[str] = []
    handles = []
    for path, module in subject.model.named_modules():
        handles.append(
            module.register_forward_pre_hook(lambda _m, _a, _k, path=path: ran.append(f"{path}:in"), with_kwargs=True)
        )
        handles.append(module.register_forward_hook(lambda _m, _a, _o, path=path: ran.append(f"{path}:out")))
    subject.run(torch.arange(6)[None])
    for handle in handles:
        handle.remove()
    places = [f"{tap.info.module}:{tap.side}" for tap in subject.taps.values() if tap.side in ("in", "out")]
    places = list(dict.fromkeys(places))
    assert [ran.index(place) for place in places] == sorted(ran.index(place) for place in places)


@pytest.mark.parametrize("check", CHECKS)
def test_contract(family, check: str):
    check_subject(family[1], only=check)
