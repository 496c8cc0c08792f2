"""Mixtures of experts: each expert's output is what its own weights give by hand, and only what is asked for is computed."""

from dataclasses import dataclass

import pytest
import torch
from tests.subjects._families import made
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import MixtralConfig, MixtralForCausalLM

from actscope.core.errors import BadInput, EmptyCorpus, UnknownSite
from actscope.core.intervention import Mean, Replace, Scale, Zero
from actscope.core.site import Port, Site
from actscope.corpora.texts import texts
from actscope.stores.capture import capture
from actscope.subjects.hf import HFSubject
from actscope.subjects.verify import verify

IDS = torch.randint(0, 300, (2, 13), generator=torch.Generator().manual_seed(4))


@pytest.fixture(scope="module", params=["mixtral", "qwen2_moe", "deepseek_v3"])
def subject(request) -> HFSubject:
    return HFSubject(made(request.param))


@pytest.fixture(scope="module")
def deepseek() -> HFSubject:
    return HFSubject(made("deepseek_v3"))


def by_hand(model, layer: int, expert: int, x: Tensor) -> Tensor:
    """One expert's output from the slices of the fused parameters."""
    experts = model.model.layers[layer].mlp.experts
    gate, up = (x @ experts.gate_up_proj[expert].T).chunk(2, dim=-1)
    return (nn.functional.silu(gate) * up) @ experts.down_proj[expert].T


def test_an_experts_output_is_what_its_own_weights_give(subject):
    acts = subject.run(IDS, read=["layers.2.mlp_in", "layers.2.router_weight", "layers.2.expert_out"]).acts
    x, weight, out = acts.values()
    for expert in range(6):
        expected = by_hand(subject.model, 2, expert, x).where(weight[..., expert, None] != 0, 0.0)
        torch.testing.assert_close(out[:, :, expert], expected, rtol=1e-5, atol=1e-5)


def test_the_routers_logits_are_its_product(subject):
    x, router = subject.run(IDS, read=["layers.2.mlp_in", "layers.2.router"]).acts.values()
    assert torch.equal(router, nn.functional.linear(x, subject.model.model.layers[2].mlp.gate.weight))
    assert list(subject.run(IDS, read=["model.layers.2.mlp.gate"]).acts) == [Site("router", 2)]


def test_deepseeks_weights_are_normed_sigmoids_of_the_best_groups(deepseek):
    """By hand, with a bias that moves the choice and not the weights: 3 groups of 2 experts, 2 groups kept, 2 experts."""
    gate = deepseek.model.model.layers[1].mlp.gate
    gate.e_score_correction_bias.copy_(torch.tensor([0.0, 0.3, 0.0, 0.0, -0.2, 0.1]))
    router, weight = deepseek.run(IDS, read=["layers.1.router", "layers.1.router_weight"]).acts.values()
    gate.e_score_correction_bias.zero_()
    for logits, found in zip(router.flatten(0, 1), weight.flatten(0, 1), strict=True):
        scores = logits.sigmoid()
        biased = scores + torch.tensor([0.0, 0.3, 0.0, 0.0, -0.2, 0.1])
        groups = biased.view(3, 2).sum(1).topk(2).indices.tolist()
        best = sorted((i for g in groups for i in (2 * g, 2 * g + 1)), key=lambda i: -biased[i])[:2]
        expected = torch.zeros(6)
        expected[best] = 2.5 * scores[best] / scores[best].sum()
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


class Shapes(TorchFunctionMode):
    """The shape of every tensor made inside."""

    def __init__(self):
        super().__init__()
        self.made: set[tuple[int, ...]] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.made.add(tuple(out.shape))
        return out


def test_one_expert_is_read_without_the_others(subject, monkeypatch):
    """The experts' own function is called once, with the rows that chose the one asked for; [b t e d] is never made."""
    experts = subject.model.model.layers[2].mlp.experts
    calls: list[tuple[int, list[int]]] = []
    native = type(experts).forward

    def forward(self, x, choice, weights):
        if self is experts:
            calls.append((len(x), choice.unique().tolist()))
        return native(self, x, choice, weights)

    monkeypatch.setattr(type(experts), "forward", forward)
    subject.run(IDS, read=["layers.2.router"])
    assert not calls
    site = Site("expert_out", 2, 3)
    with Shapes() as one:
        run = subject.run(IDS, read=[site])
    assert calls == [(int(run.valid[site].sum()), [3])]
    with Shapes() as every:
        subject.run(IDS, read=[site.whole])
    assert (2, 13, 6, 32) in every.made and (2, 13, 6, 32) not in one.made


def test_an_expert_taken_away_leaves_its_share_out_of_the_sum(subject):
    """Zero at one expert: mlp_out loses weight times output, and no other expert is moved."""
    site, names = Site("expert_out", 2, 1), ["layers.2.mlp_out", "layers.2.router_weight", "layers.2.expert_out[0]"]
    acts = subject.run(IDS, read=[*names, site]).acts
    out, weight, other, own = acts.values()
    left, _, same = subject.run(IDS, read=names, write=[Zero(site)]).acts.values()
    assert torch.equal(same, other)
    torch.testing.assert_close(left, out - weight[..., 1, None] * own, rtol=1e-4, atol=1e-5)


def test_reads_and_writes_of_whole_and_part_meet(subject):
    """The whole is written before its parts are read, and a part written is seen in the whole."""
    whole, part = Site("expert_out", 2), Site("expert_out", 2, 1)
    plain = subject.run(IDS, read=[whole]).acts[whole]
    acts = subject.run(IDS, read=[whole, part], write=[Scale(whole, 2.0), Scale(part, 3.0)]).acts
    assert torch.equal(acts[part], plain[:, :, 1] * 6) and torch.equal(acts[whole][:, :, 1], acts[part])
    assert torch.equal(acts[whole][:, :, 0], plain[:, :, 0] * 2)


def test_a_mean_over_an_experts_tokens_is_over_those_it_saw(subject):
    site = Site("expert_out", 2, 1)
    run = subject.run(IDS, read=[site])
    mean = subject.run(IDS, read=[site], write=[Mean(site)]).acts[site]
    torch.testing.assert_close(mean, run.acts[site][run.valid[site]].mean(0).expand_as(mean), rtol=1e-5, atol=1e-6)


def test_gradients_reach_one_expert_and_the_weights_that_chose_it(subject):
    """The derivative of the logits along its output, against a finite difference."""
    site = Site("expert_out", 2, 1)
    run = subject.run(IDS, read=[site, "logits"], grad=True)
    target = run.logits[0, -1, 7]
    (gradient,) = torch.autograd.grad(target, run.acts[site])
    assert bool((gradient[~run.valid[site]] == 0).all())
    step = torch.randn(gradient.shape, generator=torch.Generator().manual_seed(0))
    ends = [subject.run(IDS, write=[Replace(site, run.acts[site].detach() + h * step)]).logits for h in (0.01, -0.01)]
    measured = (ends[0][0, -1, 7] - ends[1][0, -1, 7]) / 0.02
    torch.testing.assert_close((gradient * step).sum(), measured, rtol=2e-2, atol=2e-3)


@dataclass(frozen=True)
class RunsAnother:
    """Runs the subject itself, plainly, in the middle of a pass."""

    site: Site
    subject: HFSubject
    reads: tuple[Site, ...] = ()

    def __call__(self, x, context):
        inner = self.subject.run(IDS, read=["layers.2.attn_out", "logits"])
        assert inner.logits.shape == (2, 13, 300)
        again = self.subject.run(IDS, read=[self.site]).acts[self.site]
        torch.testing.assert_close(again, x, rtol=1e-5, atol=1e-5)
        return x


@pytest.mark.parametrize(
    ("name", "kind"),
    [("mixtral", "router"), ("mixtral", "router_weight"), ("mixtral", "expert_out"), ("llama", "attn_pattern")]
    + [("gptj", "attn_scores"), ("llama", "mlp_out")],
)
def test_a_run_inside_a_run_is_apart(name, kind):
    """Whatever stands in the open in the pass outside."""
    subject, site = HFSubject(made(name)), Site(kind, 2)
    plain = subject.run(IDS, read=[site, "logits"])
    nested = subject.run(IDS, read=[site, "logits"], write=[RunsAnother(site, subject)])
    torch.testing.assert_close(nested.logits, plain.logits, rtol=1e-5, atol=1e-5)
    assert torch.equal(nested.acts[site], plain.acts[site])


def test_a_cache_carries_on_with_experts_read(subject):
    """Token by token from a cache, one expert gives what it gives at once."""
    site = Site("expert_out", 2, 1)
    whole = subject.run(IDS, read=[site])
    cache, rows, valid = True, [], []
    for t in range(IDS.shape[1]):
        run = subject.run(IDS[:, t : t + 1], read=[site], cache=cache)
        cache = run.cache
        rows.append(run.acts[site])
        valid.append(run.valid[site])
    assert torch.equal(torch.cat(valid, 1), whole.valid[site])
    torch.testing.assert_close(torch.cat(rows, 1), whole.acts[site], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["v", "k_rot"])
def test_latent_keys_and_values_are_read_with_a_cache_and_not_written(deepseek, kind):
    """The cache holds latents: a write there would be forgotten at the next step, so it is refused; q_rot may be written."""
    site = Site(kind, 1)
    full = deepseek.run(IDS, read=[site]).acts[site]
    start = deepseek.run(IDS[:, :6], read=[site], cache=True)
    rest = deepseek.run(IDS[:, 6:], read=[site], cache=start.cache)
    torch.testing.assert_close(torch.cat([start.acts[site], rest.acts[site]], 1), full, rtol=1e-4, atol=1e-5)
    with pytest.raises(BadInput, match="holds latents.*Run without a cache"):
        deepseek.run(IDS[:, :6], write=[Zero(site)], cache=True)
    for write in (Zero(site), Zero(Site(kind, 1, 2))):
        assert not torch.equal(deepseek.run(IDS, write=[write]).logits, deepseek.run(IDS).logits)
    deepseek.run(IDS[:, :6], write=[Zero(Site("q_rot", 1))], cache=True)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("layers.1.expert_out[9]", "layers.1.expert_out has 6 parts here; .*asks for part 9"),
        ("layers.0.router", "only layers 1, 2 have experts"),
        ("layers.1.mlp_pre", "in layers 1, 2 experts stand in place of one MLP; see expert_out"),
        ("layers.1.k", "only after one of them is turned; see k_rot"),
        ("layers.1.shared_gate", "shared experts are added as they are"),
    ],
)
def test_what_is_not_there_is_said(deepseek, name, says):
    with pytest.raises(UnknownSite, match=says):
        deepseek.run(IDS, read=[name])


def test_a_store_keeps_the_rows_an_expert_saw_and_their_places(tokenizer):
    """Captured in batches, an expert's rows are those that a run by hand says chose it, each traced to its token."""
    subject = HFSubject(made("mixtral"), tokenizer)
    draw = torch.Generator().manual_seed(0)
    words = ["the", "cat", "sat", "on", "mat", "and", "dog", "log", "again", "12", "a", "zebra!"]
    listed = [
        " ".join(words[i] for i in torch.randint(12, (n,), generator=draw).tolist())
        for n in (16, 2, 14, 15, 1, 9, 16, 12, 16, 13)
    ]
    site = Site("expert_out", 1, 2)
    store = capture(subject, texts(listed), [site, "layers.1.mlp_in"], context=32)
    rows = store.rows(torch.arange(len(store)), store.ports)
    expected, where = [], []
    for number, text in enumerate(listed):
        inputs = subject.prepare([text])
        x, router = subject.run(inputs, read=["layers.1.mlp_in", "layers.1.router"]).acts.values()
        chosen = (router.topk(2).indices == 2).any(-1) & (inputs.roles == 0)
        expected.append(by_hand(subject.model, 1, 2, x[chosen]))
        where += [[number, position] for position in chosen[0].nonzero()[:, 0].tolist()]
    assert rows.where.tolist() == where
    assert 0 < len(where) < sum(len(subject.prepare([text]).ids[0]) - 1 for text in listed)
    torch.testing.assert_close(rows.acts[Port(site)], torch.cat(expected), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(by_hand(subject.model, 1, 2, rows.acts[Port(Site("mlp_in", 1))]), rows.acts[Port(site)])


def test_an_expert_that_too_few_tokens_chose_is_said(tokenizer):
    subject = HFSubject(made("mixtral"), tokenizer)
    with pytest.raises(EmptyCorpus, match=r"tokens that chose layers.1.expert_out\[2\]; expected at least one context of 48"):
        capture(subject, texts(["the cat sat on the mat", "a dog"]), ["layers.1.expert_out[2]"])


def test_units_without_a_row_are_passed_over(tokenizer, monkeypatch, tmp_path):
    """Where an expert is chosen in some work units only, its store holds those rows, in memory and on disk."""
    monkeypatch.setattr("actscope.stores.capture.UNIT", 8)
    subject = HFSubject(made("mixtral"), tokenizer)
    listed = ["the cat", "a", "sat on the mat", "zebra 12"]
    weight = Site("router_weight", 1)
    chosen = torch.stack(
        [(subject.run(subject.prepare([text]), read=[weight]).acts[weight][0, 1:] != 0).sum(0) for text in listed]
    )
    expert = int(((chosen == 0).any(0) * chosen.sum(0)).argmax())  # one that some texts never reach
    site, rows = Site("expert_out", 1, expert), int(chosen[:, expert].sum())
    assert rows and not bool(chosen[:, expert].all())
    store = capture(subject, texts(listed * 12), [site], context=4, out=tmp_path / "acts")
    assert len(store) == len(capture(subject, texts(listed * 12), [site], context=4)) == 12 * rows
    found = store.rows(torch.arange(len(store)), [site])
    assert bool((found.acts[Port(site)] != 0).any(1).all())
    assert [int((found.where[:, 0] == number).sum()) for number in range(48)] == chosen[:, expert].tolist() * 12


def test_every_site_of_a_mixture_is_shown_to_be_right():
    config = MixtralConfig(
        vocab_size=53, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, num_key_value_heads=3, intermediate_size=20,
        max_position_embeddings=32, num_local_experts=5, num_experts_per_tok=3, sliding_window=None,
    )  # fmt: skip
    model = MixtralForCausalLM(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    found = {one.site.kind: one for one in verify(HFSubject(model.requires_grad_(False)))}
    assert all(one.holds for one in found.values())
    assert {measure.check for measure in found["expert_out"].measures} >= {"experts_sum_to_the_mlps_output"}
