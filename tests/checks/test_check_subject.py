"""Every check of the suite finds the fault it is there for."""

import contextlib
from dataclasses import replace

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, MixtralConfig, MixtralForCausalLM

from actscope.checks.check_subject import CHECKS, check_subject
from actscope.core.site import Site
from actscope.subjects import _experts, _hooked, _hooks, hf
from actscope.subjects._taps import HeadsTap, NormScaleTap, Tap
from actscope.subjects.hf import HFSubject


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Models this small run slower on two threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def subject() -> HFSubject:
    config = GPTNeoXConfig(
        vocab_size=53, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20, rotary_pct=0.5,
        max_position_embeddings=32, use_parallel_residual=False, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return HFSubject(model.requires_grad_(False))


def retap(subject: HFSubject, kind: str, change) -> None:
    subject.taps = {site: change(tap) if site.kind == kind else tap for site, tap in subject.taps.items()}


class Turned(HeadsTap):
    def get(self, x, module, given):
        return x.unflatten(-1, self.info.shape[2:]).roll(1, dims=2)


class OffTap(Tap):
    plain = False

    def get(self, x, module, given):
        return x * (1 + 1e-6)


class OffBy(Tap):
    plain = False

    def get(self, x, module, given):
        return x + 0.01


class NotWritten(Tap):
    plain = False

    def put(self, x, value, module, given):
        return x


class Eps(NormScaleTap):
    def get(self, x, module, given):
        return super().get(x, module, given) * 1.001


def break_hooks(subject, monkeypatch):
    class Sticky(_hooks.Pass):
        @contextlib.contextmanager
        def hooked(self, modules):
            handle = next(iter(modules.values())).register_forward_hook(lambda *_: None)
            with super().hooked(modules):
                yield
            handle.remove()

    monkeypatch.setattr(hf, "Pass", Sticky)


def blind(field):
    def breaking(subject, monkeypatch):
        inner = hf.layout
        monkeypatch.setattr(hf, "layout", lambda inputs, *a, **k: inner(inputs._replace(**{field: None}), *a, **k))

    return breaking


def tapped(kind, change):
    return lambda subject, monkeypatch: retap(subject, kind, change)


def patched(target, name, value):
    return lambda subject, monkeypatch: monkeypatch.setattr(target, name, value)


def never_stops(subject, monkeypatch):
    monkeypatch.setattr(_hooks.Pass, "done", lambda self, place: self.left.discard(place))


def in_place(module, deltas):
    for name, delta in deltas.items():
        parameter = dict(module.named_parameters())[name]
        parameter.data.copy_(delta(parameter.data))


FAULTS = {
    "boundaries_are_bitwise_plain_hooks": tapped("mlp_out", lambda tap: OffTap(tap.info, tap.side)),
    "attention_is_bitwise_the_eager_models": tapped("attn_pattern", lambda tap: OffTap(tap.info, tap.side)),
    "softmax_of_scores_is_bitwise_the_pattern": tapped("attn_scores", lambda tap: OffTap(tap.info, tap.side)),
    "scales_rebuild_the_norms": tapped("mlp_norm_scale", lambda tap: Eps(tap.info, tap.side, tap.eps)),
    "own_value_written_back_changes_nothing": tapped("mlp_pre", lambda tap: OffTap(tap.info, tap.side)),
    "another_value_written_changes_the_logits": tapped("mlp_in", lambda tap: NotWritten(tap.info, tap.side)),
    "a_head_is_one_part_of_its_site": patched(_hooks, "part_of", lambda value, kind, part: value.select(2, 0)),
    "pattern_times_values_is_z": tapped("z", lambda tap: Turned(tap.info, tap.side)),
    "queries_times_keys_are_scores": tapped("q", lambda tap: replace(tap, index=1)),
    "the_stream_is_the_sum_of_what_is_added": tapped("mlp_add", lambda tap: Tap(replace(tap.info, module="lm_head"), "in")),
    "the_sum_holds_after_writes": tapped("resid_mid", lambda tap: Tap(tap.info, tap.side)),
    "last_products_rebuild_their_outputs": tapped("mlp_post", lambda tap: OffBy(tap.info, tap.side)),
    "the_last_residual_gives_the_logits": tapped("resid_post", lambda tap: NotWritten(tap.info, tap.side)),
    "a_nonlinearity_joins_pre_and_post": tapped("mlp_pre", lambda tap: OffBy(tap.info, tap.side)),
    "a_run_gives_exactly_what_was_asked": tapped("z", lambda tap: Tap(tap.info, tap.side)),
    "a_run_stops_after_the_last_site": never_stops,
    "writes_are_made_in_order": patched(_hooked, "flatten", lambda write: list(write)[::-1]),
    "an_intervention_sees_what_stands_before_it": patched(
        _hooks.Pass, "_written", lambda this, value, site, item: item(value, this._make_context(site.stack))
    ),
    "what_cannot_be_is_refused": patched(_hooked, "resolve", lambda names, sites, missing: [next(iter(sites))]),
    "nothing_is_left_after_an_exception": break_hooks,
    "padding_and_company_do_not_matter": blind("mask"),
    "packed_documents_do_not_see_each_other": blind("document"),
    "running_on_from_a_cache_is_running_at_once": blind("mask"),
    "gradients_flow_from_the_logits_to_every_site": patched(hf, "_rooted", lambda _: contextlib.nullcontext()),
    "a_change_is_a_copy": patched(_hooked, "apply_deltas", in_place),
}


def sees(valid):
    """Experts that are said to see other tokens than they do."""

    def breaking(subject, monkeypatch):
        inner = _experts._Routing
        monkeypatch.setattr(_experts, "_Routing", lambda choice, weights, chosen: inner(choice, weights, valid(chosen)))

    return breaking


def other_expert(subject, monkeypatch):
    inner = _experts._out_of
    monkeypatch.setattr(_experts, "_out_of", lambda expert, native, x, rows: inner((expert + 1) % 5, native, x, rows))


def opened_when_read(subject, monkeypatch):
    monkeypatch.setattr(_experts, "_written", lambda this, place: True)


def not_routed(subject, monkeypatch):
    class Deaf(_experts._FirstProduct):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            given = func(*args, **(kwargs or {}))
            super().__torch_function__(func, types, args, kwargs)
            return given

    monkeypatch.setattr(_experts, "_FirstProduct", Deaf)


def left(subject, monkeypatch):
    @contextlib.contextmanager
    def standing_in(module, method, function):
        vars(module)[method] = function
        yield

    monkeypatch.setattr(_experts, "standing_in", standing_in)


EXPERT_FAULTS = {
    "weights_are_those_of_the_chosen": tapped("router_weight", lambda tap: OffTap(tap.info, tap.side)),
    "experts_sum_to_the_mlps_output": other_expert,
    "an_expert_is_valid_where_it_is_chosen": sees(lambda chosen: chosen.roll(1, 0)),
    "reading_experts_moves_nothing": opened_when_read,
    "an_expert_is_written_where_it_is_valid": sees(lambda chosen: chosen.roll(1, 0)),
    "written_weights_choose": tapped("router_weight", lambda tap: NotWritten(tap.info, tap.side)),
    "written_logits_route": not_routed,
    "experts_are_left_as_they_were": left,
}


@pytest.fixture
def mixture() -> HFSubject:
    config = MixtralConfig(
        vocab_size=53, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, intermediate_size=20,
        max_position_embeddings=32, num_local_experts=5, num_experts_per_tok=3, sliding_window=None,
    )  # fmt: skip
    model = MixtralForCausalLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return HFSubject(model.requires_grad_(False))


def test_every_check_has_a_fault():
    assert {*FAULTS, *EXPERT_FAULTS} == set(CHECKS)


def test_the_whole_subject_passes(subject):
    check_subject(subject)


def test_the_whole_mixture_passes(mixture):
    check_subject(mixture)


@pytest.mark.parametrize("check", EXPERT_FAULTS)
def test_a_fault_of_experts_is_found(mixture, monkeypatch, check: str):
    EXPERT_FAULTS[check](mixture, monkeypatch)
    with pytest.raises(AssertionError):
        check_subject(mixture, only=check)


@pytest.mark.parametrize("check", FAULTS)
def test_a_fault_is_found(subject, monkeypatch, check: str):
    FAULTS[check](subject, monkeypatch)
    with pytest.raises(AssertionError):
        check_subject(subject, only=check)


def test_a_missing_site_is_named(subject):
    assert Site("resid_mid", 0) in subject.sites and "router" in subject.missing
