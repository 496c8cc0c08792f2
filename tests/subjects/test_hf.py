"""How a transformers subject runs: what is given, what is refused, what is left alone."""

import subprocess
import sys
import threading
from dataclasses import dataclass

import pytest
import torch
from tests.subjects._families import made
from tests.subjects.conftest import make_model
from torch import Tensor

from actscope.core.change import Change, Delta
from actscope.core.errors import BadInput, NotFinite, UnknownSite
from actscope.core.inputs import SPECIAL, TEXT, Inputs
from actscope.core.intervention import Add, At, Context, Mean, Replace, Scale, Zero
from actscope.core.site import Site
from actscope.core.subject import Subject
from actscope.subjects.hf import HFSubject


def ids(b: int = 2, t: int = 9) -> Tensor:
    return torch.randint(0, 300, (b, t), generator=torch.Generator().manual_seed(1))


def near(found: Tensor | None, expected: Tensor | None) -> bool:
    assert found is not None and expected is not None
    return bool((found - expected).norm() <= 1e-5 * expected.norm())


def test_it_is_a_subject_and_its_logits_are_the_models(model):
    subject = HFSubject(model)
    assert isinstance(subject, Subject)
    with torch.no_grad():
        assert torch.equal(subject.run(ids()).logits, model(ids()).logits)


def test_importing_subjects_does_not_import_transformers():
    code = "import actscope.subjects.load, actscope.subjects.module, sys; print('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def test_one_boundary_site_costs_one_hook_and_leaves_attention_alone(model, monkeypatch):
    seen = []
    original = torch.nn.Module.register_forward_hook
    monkeypatch.setattr(torch.nn.Module, "register_forward_hook", lambda *a, **k: seen.append(a[0]) or original(*a, **k))
    HFSubject(model).run(ids(), read="layers.1.mlp_out")
    assert seen == [model.gpt_neox.layers[1].mlp.dense_4h_to_h]


@dataclass(frozen=True)
class Watch:
    """Notes which attention the model's config names while it runs."""

    site: Site
    config: object
    notes: list
    reads: tuple = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        self.notes.append((self.config._attn_implementation, context))
        return x


def test_attention_is_switched_only_for_sites_inside_it_and_back(model):
    notes: list = []
    watch = Watch(Site("resid_post", 0), model.config, notes)
    before = model.config._attn_implementation
    HFSubject(model).run(ids(), read="layers.1.q", write=[watch])
    HFSubject(model).run(ids(), read="layers.1.q_rot", write=[watch])
    assert [name for name, _ in notes] == [before, "actscope"]
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("family", ["parallel", "sequential", "gptj"])
@pytest.mark.parametrize(
    ("sites", "spared"),
    [
        (["mlp_out"], True), (["mlp_in", "mlp_post", "resid_pre"], True), (["attn_in", "mlp_pre"], True),
        (["mlp_out", "attn_out"], False), (["resid_post"], False),
    ],
)  # fmt: skip
def test_attention_beside_the_last_site_is_left_out(family, sites, spared):
    """In parallel blocks what the MLP gives does not follow from the attention of the same block."""
    net = made(family) if family == "gptj" else make_model(family == "parallel")
    subject, ran = HFSubject(net), []
    for path, layer in subject.anatomy.attention.items():
        net.get_submodule(path).register_forward_hook(lambda _m, _a, out, layer=layer: ran.append((layer, out[0])))
    wanted = [Site(kind, layer) for layer in (0, 1) for kind in sites if Site(kind, layer) in subject.sites]
    whole = subject.run(ids(), read=[*wanted, Site("logits")]).acts
    ran.clear()
    acts = subject.run(ids(), read=wanted).acts
    assert all(torch.equal(acts[site], whole[site]) for site in wanted)
    assert [layer for layer, out in ran if out.any()] == ([0] if spared and family != "sequential" else [0, 1])
    first, last = wanted[0], wanted[-1]
    written = subject.run(ids(), read=last, write=[Zero(first)]).acts[last]
    logits = subject.run(ids(), read=[last, Site("logits")], write=[Zero(first)]).acts[last]
    assert torch.equal(written, logits)


def test_attention_of_the_last_block_runs_for_a_module_inside_it(model):
    name = "module:gpt_neox.layers.1.attention:out"
    acts = HFSubject(model).run(ids(), read=[name, "layers.1.mlp_out"]).acts
    assert acts[Site(name)].any()
    assert torch.equal(acts[Site(name)], HFSubject(model).run(ids(), read="layers.1.attn_out").acts[Site("attn_out", 1)])


def test_any_module_can_be_read_and_written(model):
    subject = HFSubject(model)
    path = "gpt_neox.layers.1.mlp.act"
    acts = subject.run(ids(), read=[f"module:{path}:out", "layers.1.mlp_post", f"module:{path}:in", "layers.1.mlp_pre"]).acts
    assert torch.equal(acts[Site(f"module:{path}:out")], acts[Site("mlp_post", 1)])
    assert torch.equal(acts[Site(f"module:{path}:in")], acts[Site("mlp_pre", 1)])
    zeroed = subject.run(ids(), write=[Zero(Site(f"module:{path}:out"))]).logits
    assert torch.equal(zeroed, subject.run(ids(), write=[Zero(Site("mlp_post", 1))]).logits)


def test_a_module_and_the_site_it_is_share_their_writes(model):
    """A read by one name returns what a write by the other put there."""
    subject = HFSubject(model)
    name = "module:gpt_neox.layers.0:out"
    acts = subject.run(ids(), read=[name, "layers.0.resid_post"], write=[Zero(Site(name))]).acts
    assert not acts[Site("resid_post", 0)].any() and not acts[Site(name)].any()


def test_a_module_that_gives_a_tuple_is_read_and_written(model):
    subject = HFSubject(model)
    name = "module:gpt_neox.layers.0.attention:out"
    acts = subject.run(ids(), read=[name, "layers.0.attn_out"]).acts
    assert torch.equal(acts[Site(name)], acts[Site("attn_out", 0)])
    written = subject.run(ids(), write=[Zero(Site(name))]).logits
    assert torch.equal(written, subject.run(ids(), write=[Zero(Site("attn_add", 0))]).logits)


def test_a_module_behind_the_projection_can_be_read_without_logits(model):
    run = HFSubject(model).run(ids(), read="module:lm_head:in")
    assert run.logits is None
    assert torch.equal(
        run.acts[Site("module:lm_head:in")], HFSubject(model).run(ids(), read="final_norm").acts[Site("final_norm")]
    )


def test_a_module_that_does_not_run_says_so(model):
    with pytest.raises(UnknownSite, match="did not run"):
        HFSubject(model).run(ids(), read="module:gpt_neox.layers:out")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (torch.tensor([[1, 300]]), "0 to 299"),
        (torch.tensor([[1, -1]]), "-1 to 1"),
        (torch.tensor([1, 2]), "whole numbers"),
        (torch.zeros(1, 3), "whole numbers"),
        (torch.zeros(1, 0, dtype=torch.long), "at least one"),
        (torch.zeros(1, 49, dtype=torch.long), "at most 48"),
        (Inputs(), "ids or with embeds"),
        (Inputs(ids=ids(), mask=torch.ones(2, 4)), "mask has shape"),
        (Inputs(ids=ids(), positions=torch.full((2, 9), 48)), "at most 48"),
        (Inputs(ids=ids(), positions=torch.arange(9)), "positions has shape"),
        (Inputs(ids=ids(), sees=torch.ones(2, 9, 9)), "give positions"),
        (Inputs(ids=ids(), document=torch.zeros(2, 3)), "document has shape"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(model, given, says: str):
    with pytest.raises(BadInput, match=says):
        HFSubject(model).run(given)


def test_embeddings_stand_in_for_ids(model):
    subject = HFSubject(model)
    run = subject.run(ids(), read=["embed", "logits"])
    given = Inputs(embeds=run.acts[Site("embed")])
    assert torch.equal(subject.run(given).logits, run.logits)
    assert torch.equal(subject.run(given, read="embed").acts[Site("embed")], run.acts[Site("embed")])
    doubled = subject.run(given, read="logits", write=[Scale(Site("embed"), 2.0)]).logits
    assert torch.equal(doubled, subject.run(ids(), read="logits", write=[Scale(Site("embed"), 2.0)]).logits)


def test_sees_lets_variants_of_a_token_share_a_prefix(model):
    """One row holds a prefix and two continuations; each gives what it gives alone, also with attention in the open."""
    subject = HFSubject(model)
    full = ids(2, 9)
    full[1, :8] = full[0, :8]
    row = torch.cat([full[0], full[1, 8:]])[None]
    sees = torch.ones(10, 10, dtype=torch.bool).tril()
    sees[9, 8] = False
    positions = torch.tensor([[*range(9), 8]])
    given = Inputs(ids=row, sees=sees[None], positions=positions)
    alone = subject.run(full).logits[:, 8]
    assert near(subject.run(given).logits[0, 8:], alone)
    assert near(subject.run(given, read=["logits", "layers.0.attn_pattern"]).logits[0, 8:], alone)
    causal = given._replace(sees=torch.ones(1, 10, 10, dtype=torch.bool).tril())
    assert not near(subject.run(causal).logits[0, 8:], alone)


def test_a_row_may_be_longer_than_the_context_where_positions_are_not(model):
    t = 60
    sees = torch.eye(t, dtype=torch.bool)[None]
    run = HFSubject(model).run(Inputs(ids=ids(1, t), sees=sees, positions=torch.zeros(1, t, dtype=torch.long)))
    assert run.logits.shape == (1, t, 300)


def test_positions_that_jump_do_not_mean_packing(model):
    subject = HFSubject(model)
    far = torch.arange(9).repeat(2, 1)
    far[:, 5:] += 20
    given = subject.run(Inputs(ids=ids(), positions=far)).logits
    masked = subject.run(Inputs(ids=ids(), positions=far, mask=torch.ones(2, 9))).logits
    assert torch.equal(given, masked)
    assert not near(given[:, 5:], subject.run(ids()).logits[:, 5:])


def test_context_tells_positions_mask_and_step(model):
    notes: list = []
    watch = Watch(Site("resid_post", 0), model.config, notes)
    subject = HFSubject(model)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, :3] = False
    start = subject.run(Inputs(ids=ids(), mask=mask), write=[watch], cache=True)
    subject.run(ids(2, 1), write=[watch], cache=start.cache)
    (_, first), (_, second) = notes
    assert first.positions.tolist() == [[0, 0, 0, 0, 1, 2, 3, 4, 5], list(range(9))] and torch.equal(first.mask, mask)
    assert first.step == 0 and second.step == 1
    assert second.positions.tolist() == [[6], [9]] and second.mask.tolist() == [[True], [True]]


def test_mean_leaves_padding_out(model):
    subject, site = HFSubject(model), Site("mlp_out", 1)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, 4:] = False
    given = Inputs(ids=ids(), mask=mask)
    own = subject.run(given, read=site).acts[site]
    assert near(subject.run(given, read=site, write=[Mean(site)]).acts[site][0, 0], own[mask].mean(0))


def test_a_write_at_one_position_leaves_earlier_ones_bitwise(model):
    subject = HFSubject(model)
    where = torch.zeros(2, 9, dtype=torch.bool)
    where[:, 5] = True
    plain = subject.run(ids()).logits
    moved = subject.run(ids(), write=[At(Add(Site("resid_post", 0), torch.arange(36.0)), where)]).logits
    assert torch.equal(moved[:, :5], plain[:, :5]) and not near(moved[:, 5:], plain[:, 5:])


@dataclass(frozen=True)
class Within:
    """Runs the same subject inside an intervention, as path patching does."""

    site: Site
    subject: HFSubject
    reads: tuple = ()

    def __call__(self, x: Tensor, context: Context) -> Tensor:
        return self.subject.run(context.inputs, read=self.site).acts[self.site] * 2


def test_a_run_inside_an_intervention_is_a_run_of_its_own(model):
    subject, site = HFSubject(model), Site("attn_pattern", 1)
    found = subject.run(ids(), read=["layers.0.z", "logits"], write=[Within(site, subject)])
    expected = subject.run(ids(), read=["layers.0.z", "logits"], write=[Scale(site, 2.0)])
    assert torch.equal(found.logits, expected.logits)
    assert torch.equal(found.acts[Site("z", 0)], expected.acts[Site("z", 0)])


def test_a_run_inside_an_intervention_has_all_its_attention(model):
    subject, site, seen = HFSubject(model), Site("mlp_in", 1), []

    @dataclass(frozen=True)
    class Inner:
        site: Site
        reads: tuple = ()

        def __call__(self, x: Tensor, context: Context) -> Tensor:
            seen.append(subject.run(ids()).logits)
            return x

    found = subject.run(ids(), read="layers.1.mlp_out", write=[Inner(site)]).acts[Site("mlp_out", 1)]
    assert torch.equal(found, subject.run(ids(), read="layers.1.mlp_out").acts[Site("mlp_out", 1)])
    assert torch.equal(seen[0], subject.run(ids()).logits)


def test_threads_take_turns(model):
    subject = HFSubject(model)
    expected = [subject.run(ids(2, t), read="layers.1.attn_pattern").acts[Site("attn_pattern", 1)] for t in range(3, 9)]
    found: dict[int, Tensor] = {}

    def work(t: int) -> None:
        for _ in range(5):
            found[t] = subject.run(ids(2, t), read="layers.1.attn_pattern").acts[Site("attn_pattern", 1)]

    threads = [threading.Thread(target=work, args=(t,)) for t in range(3, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[t], expected[t - 3]) for t in range(3, 9))


def test_written_keys_go_into_the_cache(model):
    """A token run on from a cache sees the rotated keys that were written, not those that stood there."""
    subject, site = HFSubject(model), Site("k_rot", 1)
    own = subject.run(ids(), read=site).acts[site]
    value = own * 2
    full = subject.run(ids(), read="logits", write=[Replace(site, value)]).logits
    start = subject.run(ids()[:, :8], write=[Replace(site, value[:, :8])], cache=True)
    last = subject.run(ids()[:, 8:], cache=start.cache, read=["logits", site], write=[Replace(site, value[:, 8:])])
    assert near(last.logits[:, 0], full[:, 8])
    assert last.acts[site].shape == (2, 1, 3, 12)


def test_packed_documents_run_on_from_a_cache(model):
    subject = HFSubject(model)
    document = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]] * 2)
    full = subject.run(Inputs(ids=ids(), document=document)).logits
    start = subject.run(Inputs(ids=ids()[:, :6], document=document[:, :6]), cache=True)
    rest = subject.run(Inputs(ids=ids()[:, 6:], document=document[:, 6:]), cache=start.cache).logits
    assert near(rest, full[:, 6:])
    with pytest.raises(BadInput, match="document"):
        subject.run(ids()[:, 6:], cache=start.cache)


def test_a_cache_is_cropped_only_to_what_it_has(model):
    cache = HFSubject(model).run(ids(), cache=True).cache
    assert cache.crop(0).length == 0 and cache.length == 9
    with pytest.raises(BadInput, match="0 to 9"):
        cache.crop(10)
    with pytest.raises(BadInput, match="cache=str"):
        HFSubject(model).run(ids(), cache="yes")


def test_changes_add_up_and_their_origin_is_shown(model):
    subject = HFSubject(model, name="tiny")
    site = Site("mlp_out", 0)
    both = subject.changed(Change((Scale(site, 2.0),), origin="steer")).changed(Change((Add(site, torch.ones(36)),)))
    assert torch.equal(both.run(ids()).logits, subject.run(ids(), write=[Scale(site, 2.0), Add(site, torch.ones(36))]).logits)
    assert both.name == "tiny+steer"
    assert len({subject.fingerprint, both.fingerprint}) == 2
    again = subject.changed(Change((Scale(site, 2.0),), origin="other")).changed(Change((Add(site, torch.ones(36)),)))
    assert again.fingerprint == both.fingerprint, "the same contents have the same fingerprint"
    other = subject.changed(Change((Scale(site, 2.5),)))
    assert other.fingerprint != subject.changed(Change((Scale(site, 2.0),))).fingerprint


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (Change(weights={"lm_head.wait": Delta(torch.ones(1))}), BadInput, "lm_head.weight"),
        (Change(weights={"lm_head.weight": Delta(torch.ones(3, 5), replaces=True)}), BadInput, r"expected \(300, 36\)"),
        (Change(weights={"lm_head.weight": Delta(torch.tensor(float("nan")))}), NotFinite, "lm_head.weight"),
        (Change((Zero(Site("resid_post", 8)),)), UnknownSite, "layers.8"),
    ],
)
def test_a_change_that_does_not_fit_is_refused(model, change: Change, error: type, says: str):
    with pytest.raises(error, match=says):
        HFSubject(model).changed(change)


def test_the_fingerprint_tells_weights_and_tokenizers_apart(model, tokenizer):
    plain = HFSubject(model)
    assert plain.fingerprint == HFSubject(model, name="another name").fingerprint
    assert plain.fingerprint != HFSubject(model, tokenizer).fingerprint
    nudged = plain.changed(Change(weights={"lm_head.weight": Delta(torch.tensor(1e-3))}))
    rebuilt = HFSubject(nudged.model)
    assert rebuilt.fingerprint != plain.fingerprint


def test_text_becomes_tokens_with_places(model, tokenizer):
    subject = HFSubject(model, tokenizer)
    texts = ["the cat sat", "the<|endoftext|> dog\n"]
    inputs = subject.prepare(texts)
    assert inputs.ids[:, 0].tolist() == [0, 0] and inputs.roles[:, 0].tolist() == [SPECIAL, SPECIAL]
    for row, text in enumerate(texts):
        kept = inputs.mask[row]
        places = inputs.offsets[row][kept & (inputs.roles[row] == TEXT)]
        pieces = subject.pieces(inputs.ids[row][kept & (inputs.roles[row] == TEXT)])
        assert [text[start:end] for start, end in places.tolist()] == pieces
        assert "".join(subject.pieces(inputs.ids[row][kept])[1:]) == text
    written = inputs.ids[1] == 0
    assert written.sum() >= 2 and (inputs.roles[1][written] == SPECIAL).all()
    assert (inputs.roles[~inputs.mask] == SPECIAL).all()


def test_the_length_of_a_batch_does_not_change_a_row(model, tokenizer):
    """A tokenizer remembers no padding or truncation from another call."""
    subject = HFSubject(model, tokenizer)
    before = subject.fingerprint
    tokenizer(["the cat", "the cat sat on the mat"], padding=True, truncation=True, max_length=3)
    inputs = subject.prepare(["the cat sat on the mat"])
    assert inputs.ids.shape[1] > 3
    assert HFSubject(model, tokenizer).fingerprint == before


def test_bytes_of_a_split_letter_are_shown_as_escapes(model, tokenizer):
    subject = HFSubject(model, tokenizer)
    inputs = subject.prepare(["\u00e9 \U0001f600\t"])
    pieces = subject.pieces(inputs.ids[0])
    assert pieces == ["<|endoftext|>", "\\xc3", "\\xa9", " ", "\\xf0", "\\x9f", "\\x98", "\\x80", "\t"]
    assert subject.pieces([299999]) == ["<299999>"]


def test_without_a_tokenizer_only_text_is_refused(model):
    subject = HFSubject(model)
    with pytest.raises(BadInput, match="no tokenizer"):
        subject.prepare(["text"])
    assert subject.pieces(torch.tensor([3])) == ["<3>"]
    with pytest.raises(BadInput):
        HFSubject(model, object())
