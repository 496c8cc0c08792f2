"""Encoders of text and of images: every site each has, each one right, and what only they can get wrong."""

import json
from typing import Any

import pytest
import torch
from tests.subjects._other_families import OTHERS, made

from actscope.checks.check_subject import CHECKS, check_subject
from actscope.core.errors import BadInput, NotAModel, UnknownSite
from actscope.core.inputs import Inputs
from actscope.core.intervention import Mean, Zero
from actscope.core.site import LAYER_KINDS, WHOLE_KINDS, Site
from actscope.subjects.engine import generate
from actscope.subjects.hf import HFSubject
from actscope.subjects.load import load

BLOCKS = (
    "resid_pre", "attn_in", "attn_norm_scale", "q", "k", "v", "attn_scores", "attn_pattern", "z", "attn_out", "attn_add",
    "resid_mid", "mlp_in", "mlp_norm_scale", "mlp_pre", "mlp_post", "mlp_out", "mlp_add", "resid_post",
)  # fmt: skip
NORMED = ("final_norm", "final_norm_scale")
CROSS = (
    "resid_cross", "cross_in", "cross_norm_scale", "cross_q", "cross_k", "cross_v", "cross_scores", "cross_pattern", "cross_z",
    "cross_out", "cross_add",
)  # fmt: skip
MIXER = (
    "resid_pre", "mixer_in", "mixer_norm_scale", "conv_in", "gate", "conv_out", "ssm_out", "mixer_out", "mixer_add",
    "resid_post",
)  # fmt: skip
KINDS = {name: BLOCKS for name in OTHERS} | {"dinov2:gated": (*BLOCKS, "mlp_up"), "t5": (*BLOCKS, "mlp_up"), "mamba": MIXER}
DECODERS = {"t5": 3, "t5:below the head": 2}  # entry -> layers of its decoder
WHOLE = {
    "bert": ("embed", "logits"), "roberta": ("embed", "logits"), "distilbert": ("embed", "logits"),
    "bert:below the head": ("embed",), "vit": ("embed", *NORMED, "logits"), "vit:below the head": ("embed", *NORMED),
    "dinov2": ("embed", *NORMED, "logits"), "dinov2:gated": ("embed", *NORMED), "clip_vision_model": ("embed",),
    "clip_vision_model:projected": ("embed",), "mamba": ("embed", *NORMED, "logits"),
}  # fmt: skip
PIXELS = [name for name in OTHERS if name.startswith(("vit", "dinov2", "clip"))]


@pytest.fixture(scope="module", params=OTHERS)
def other(request) -> tuple[str, HFSubject]:
    return request.param, HFSubject(made(request.param))


def some(subject: HFSubject, rows: int = 2) -> Inputs:
    draws = torch.Generator().manual_seed(1)
    if (images := subject.anatomy.images) is not None:
        return Inputs(pixels=torch.randn(rows, images.channels, *images.size, generator=draws))
    ids = torch.randint(2, 300, (rows, 9), generator=draws)
    return Inputs(ids=ids, decoder=None if subject.anatomy.start is None else ids[:, :5].flip(1))


@pytest.mark.parametrize("check", CHECKS)
def test_contract(other, check: str):
    check_subject(other[1], only=check)


def test_no_site_is_missing_unsaid(other):
    name, subject = other
    if name.startswith("t5"):
        counts = {"encoder": (2, KINDS[name]), "decoder": (DECODERS.get(name, 0), (*KINDS[name], *CROSS))}
        expected = {Site(kind, layer, stack=s) for s, (n, kinds) in counts.items() for kind in kinds for layer in range(n)}
        expected |= {Site(kind, stack=s) for s, (n, _) in counts.items() for kind in ("embed", *NORMED) if n}
        expected |= {Site("logits")} if name == "t5" else set()
    else:
        expected = {Site(kind, layer) for kind in KINDS[name] for layer in range(2)} | {Site(kind) for kind in WHOLE[name]}
    assert set(subject.sites) == set(subject.order) == expected
    assert set(subject.missing) == {*LAYER_KINDS, *WHOLE_KINDS} - {site.kind for site in expected}
    assert all(subject.missing.values())


def test_the_order_is_the_order_of_computation(other):
    _, subject = other
    ran: list[str] = []
    handles = []
    for path, module in subject.model.named_modules():
        handles.append(
            module.register_forward_pre_hook(lambda _m, _a, _k, path=path: ran.append(f"{path}:in"), with_kwargs=True)
        )
        handles.append(module.register_forward_hook(lambda _m, _a, _o, path=path: ran.append(f"{path}:out")))
    subject.run(some(subject))
    assert ran
    for handle in handles:
        handle.remove()
    places = [f"{tap.info.module}:{tap.side}" for tap in subject.taps.values() if tap.side in ("in", "out")]
    places = list(dict.fromkeys(places))
    assert [ran.index(place) for place in places] == sorted(ran.index(place) for place in places)


def test_a_folder_of_it_is_opened_and_computes_the_same(other, tmp_path):
    _, subject = other
    subject.model.save_pretrained(tmp_path)
    opened = load(tmp_path)
    given, last = some(subject), subject.order[-1]
    assert torch.equal(opened.run(given, read=[last]).acts[last], subject.run(given, read=[last]).acts[last])
    assert opened.fingerprint == subject.fingerprint and list(opened.sites) == list(subject.sites)
    assert type(opened.model) is type(subject.model)


def renamed(folder: Any, *architectures: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": list(architectures)}))


def test_weights_without_their_head_are_the_model_below_it(tmp_path, capfd):
    """Folders of sentence encoders often name the class with a head that their weights were taken from."""
    made("bert:below the head").save_pretrained(tmp_path)
    renamed(tmp_path, "BertForMaskedLM")
    capfd.readouterr()
    subject = load(tmp_path)
    assert type(subject.model).__name__ == "BertModel" and "without cls" in subject.missing["logits"]
    assert subject.run(some(subject)).logits is None
    assert capfd.readouterr() == ("", ""), "what is handled is not warned of"


def test_a_class_that_is_not_read_is_refused(tmp_path):
    made("bert").save_pretrained(tmp_path)
    for name in ("BertForQuestionAnswering", "PreTrainedModel", "os", "BertConfig"):
        renamed(tmp_path, name)
        with pytest.raises(NotAModel, match=f"names {name}.*reads BertForMaskedLM and BertModel"):
            load(tmp_path)


def test_a_decoder_below_its_head_is_opened_too(tmp_path):
    from tests.subjects._families import made as made_decoder

    whole = made_decoder("llama")
    whole.base_model.save_pretrained(tmp_path)
    subject, ids = load(tmp_path), torch.arange(12).view(2, 6)
    assert type(subject.model).__name__ == "LlamaModel" and Site("logits") not in subject.sites
    last = Site("final_norm")
    expected = HFSubject(whole).run(ids, read=[last]).acts[last]
    assert torch.equal(subject.run(ids, read=[last]).acts[last], expected) and subject.causal


def test_every_token_sees_all_but_padding():
    """The first token's vector moves with the last real token, and not with padding."""
    subject, last = HFSubject(made("bert")), Site("resid_post", 1)
    ids = some(subject).ids
    assert ids is not None
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[:, 7:] = False
    other, padding = ids.clone(), ids.clone()
    other[:, 6] += 1
    padding[:, 7:] += 1
    first, moved, same = (subject.run(Inputs(ids=x, mask=mask), read=[last]).acts[last][:, 0] for x in (ids, other, padding))
    assert torch.equal(first, same) and not torch.allclose(first, moved)


def test_positions_of_roberta_are_counted_after_its_padding():
    subject = HFSubject(made("roberta"))
    assert subject.context == 46
    ids = torch.randint(2, 300, (1, 46), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(subject.run(ids).logits, subject.model(ids).logits)
    with pytest.raises(BadInput, match="at most 46"):
        subject.run(torch.cat([ids, ids], dim=1))


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_what_does_not_continue_a_text_says_so(name: str):
    with pytest.raises(BadInput, match="does not continue a text"):
        generate(HFSubject(made(name)), [[5, 6]], tokens=2)


def test_a_state_space_continues_a_text_without_a_cache():
    subject = HFSubject(made("mamba"))
    found = generate(subject, [[5, 6, 7]], tokens=3, ends=False)
    assert found.ids[0].tolist() == greedy(subject, [5, 6, 7], 3)


def greedy(subject: HFSubject, ids: list[int], tokens: int) -> list[int]:
    for _ in range(tokens):
        ids = [*ids, int(subject.run(torch.tensor([ids])).logits[0, -1].argmax())]
    return ids[-tokens:]


def test_an_encoder_keeps_no_cache():
    subject = HFSubject(made("bert"))
    assert not subject.caches and not subject.causal
    with pytest.raises(BadInput, match="no keys and values"):
        subject.run(some(subject), cache=True)


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_an_encoder_made_a_decoder_is_refused(name: str):
    model = made(name)
    model.config.is_decoder = True
    with pytest.raises(NotAModel, match="is_decoder"):
        HFSubject(model)


@pytest.mark.parametrize("name", PIXELS)
def test_images_are_taken_and_all_else_is_refused(name: str):
    subject = HFSubject(made(name))
    given = some(subject)
    inputs = subject.prepare(given.pixels)
    assert inputs.mask.all() and inputs.mask.shape == subject.run(given, read=["embed"]).acts[Site("embed")].shape[:2]
    for raw, says in (
        ("a cat", "takes images"), (["a cat"], "takes images"), (torch.zeros(2, 3, 12, 12, dtype=torch.long), "takes numbers"),
        (torch.zeros(2, 1, 12, 12), "takes numbers"), (torch.zeros(3, 12, 12), "takes numbers"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=says):
            subject.prepare(raw)
    for wrong in (Inputs(ids=torch.zeros(1, 3, dtype=torch.long)), given._replace(positions=torch.zeros(2, 10)), Inputs()):
        with pytest.raises(BadInput):
            subject.run(wrong)
    with pytest.raises(BadInput, match="leaves tokens"):
        subject.run(inputs._replace(mask=~inputs.mask))


def test_a_size_that_a_model_does_not_take_is_refused_and_one_that_it_resizes_to_is_not():
    larger = torch.randn(2, 3, 20, 20)
    with pytest.raises(BadInput, match="takes 12 x 12"):
        HFSubject(made("vit:below the head")).run(larger)
    subject = HFSubject(made("dinov2"))
    assert subject.run(larger, read=["layers.1.z"]).acts[Site("z", 1)].shape[:2] == (2, 26)
    assert subject.prepare(larger).mask.shape == (2, 26)


def test_layer_scale_stands_between_what_a_block_gives_and_what_is_added():
    subject = HFSubject(made("dinov2"))
    for block in ("attn", "mlp"):
        acts = subject.run(some(subject), read=[f"layers.1.{block}_out", f"layers.1.{block}_add"]).acts
        out, add = acts.values()
        scale = subject.weights()[f"dinov2.encoder.layer.1.layer_scale{1 if block == 'attn' else 2}.lambda1"]
        assert torch.equal(out * scale, add) and not torch.allclose(out, add)


def test_embed_stands_before_the_first_norm_of_clip():
    """And is resid_pre of the first layer in a model without one."""
    acts = (
        HFSubject(made("clip_vision_model"))
        .run(some(HFSubject(made("clip_vision_model"))), read=["embed", "layers.0.resid_pre"])
        .acts
    )
    assert not torch.allclose(*acts.values())
    subject = HFSubject(made("vit"))
    assert torch.equal(*subject.run(some(subject), read=["embed", "layers.0.resid_pre"]).acts.values())


def test_the_class_of_an_image_is_written_and_read():
    subject = HFSubject(made("vit"))
    assert subject.sites[Site("logits")].shape == ("b", 7)
    assert subject.run(some(subject)).logits.shape == (2, 7)
    assert not subject.run(some(subject), read="logits", write=[Zero(Site("logits"))]).logits.any()


def test_a_projected_image_is_a_module_of_its_own():
    subject = HFSubject(made("clip_vision_model:projected"))
    name = "module:visual_projection:out"
    with torch.no_grad():
        expected = subject.model(some(subject).pixels).image_embeds
    assert torch.equal(subject.run(some(subject), read=[name]).acts[Site(name)], expected)


def test_a_run_of_the_encoder_alone_does_not_run_the_decoder():
    subject = HFSubject(made("t5"))
    ran: list[str] = []
    handles = [
        module.register_forward_pre_hook(lambda _m, _a, path=path: ran.append(path), with_kwargs=False)
        for path, module in subject.model.named_modules()
    ]
    given = some(subject)
    subject.run(given, read=[site for site in subject.order if site.stack == "encoder"])
    encoder = list(ran)
    subject.run(given, read=["decoder.layers.0.cross_pattern"])
    for handle in handles:
        handle.remove()
    assert encoder and not any(path.startswith(("decoder", "lm_head")) for path in encoder)
    assert any(path.startswith("decoder") for path in ran) and "lm_head" not in ran


def test_a_decoder_begins_with_its_own_token():
    subject = HFSubject(made("t5"))
    ids = some(subject).ids
    alone, given = subject.run(ids).logits, subject.run(Inputs(ids=ids, decoder=torch.zeros(2, 1, dtype=torch.long))).logits
    assert alone.shape == (2, 1, 300) and torch.equal(alone, given)
    for decoder, says in ((torch.zeros(3, 1, dtype=torch.long), "one for each row"), (torch.zeros(2, 1), "whole numbers")):
        with pytest.raises(BadInput, match=says):
            subject.run(Inputs(ids=ids, decoder=decoder))
    with pytest.raises(BadInput, match="no second stack"):
        HFSubject(made("bert")).run(Inputs(ids=ids, decoder=ids))
    with pytest.raises(BadInput, match="by their place alone"):
        subject.run(Inputs(ids=ids, document=torch.zeros_like(ids)))


def test_means_of_a_decoder_are_over_its_own_tokens():
    subject, site = HFSubject(made("t5")), Site("mlp_out", 1, stack="decoder")
    given = some(subject)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, 5:] = False
    given = given._replace(mask=mask)
    own = subject.run(given, read=[site]).acts[site]
    found = subject.run(given, read=[site], write=[Mean(site)]).acts[site]
    assert torch.allclose(found[0, 0], own.flatten(0, 1).mean(0), atol=1e-5)


def test_distance_is_part_of_the_scores():
    """Without it the first layer's scores would be queries times keys alone."""
    subject = HFSubject(made("t5"))
    acts = subject.run(some(subject), read=[f"encoder.layers.0.{kind}" for kind in ("q", "k", "attn_scores")]).acts
    q, k, scores = acts.values()
    assert not torch.allclose(torch.einsum("bthd,bshd->bhts", q, k), scores, atol=1e-3)


def test_a_state_space_is_causal_and_keeps_no_cache():
    subject = HFSubject(made("mamba"))
    ids = some(subject).ids
    other = ids.clone()
    other[:, -1] += 1
    assert torch.equal(subject.run(ids).logits[:, :-1], subject.run(other).logits[:, :-1]) and subject.causal
    with pytest.raises(BadInput, match="no keys and values"):
        subject.run(ids, cache=True)
    with pytest.raises(UnknownSite, match="no attention"):
        subject.run(ids, read="layers.0.attn_pattern")


def test_a_state_space_that_would_see_padding_is_refused():
    model = made("mamba")
    model.config.use_bias = True
    with pytest.raises(NotAModel, match="use_bias"):
        HFSubject(model)
