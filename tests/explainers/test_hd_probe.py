"""The hyperdimensional probe: the algebra of its vectors, and what it reads of states whose contents are known."""

import dataclasses
import json
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from actscope.core.errors import BadInput, Corrupt, NotFinite, UnknownSite, WrongSubject
from actscope.core.inputs import Inputs
from actscope.explainers.hd_probe import HDProbe, bind, bundle, cosines, hd_probe, hypervectors, pooled, unbind
from actscope.subjects.load import load
from actscope.subjects.module import wrap

COLOURS, SHAPES = tuple("rgbycm"), tuple("12345")
SMALL = {"dimensions": 256, "hidden": 64, "rows": 12_000, "batch": 64, "lr": 3e-3}


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 20), dimensions=st.integers(1, 300))
def test_unbinding_undoes_binding(seed: int, count: int, dimensions: int):
    role, concept = (hypervectors(count, dimensions, draw(seed + side)) for side in (0, 1))
    assert set(role.unique().tolist()) <= {-1.0, 1.0}
    assert torch.equal(unbind(bind(role, concept), role), concept)
    assert torch.equal(bind(role, concept), bind(concept, role))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), m=st.integers(1, 7))
def test_a_bundle_gives_back_each_of_its_pairs_and_nothing_to_another_role(seed: int, m: int):
    generator = draw(seed)
    roles, codebook = hypervectors(m + 1, 4096, generator), hypervectors(40, 4096, generator)
    which = torch.randperm(40, generator=generator)[:m]
    whole = bundle(bind(roles[:m], codebook[which]))
    near = cosines(unbind(whole, roles), codebook)
    assert torch.equal(near[:m].argmax(1), which)
    assert near[:m].max(1).values.min() > 1.5 * near[m].max()


def test_a_tie_is_nothing_and_a_majority_is_its_sign():
    pairs = torch.tensor([[1.0, 1, -1], [1, -1, -1]])
    assert torch.equal(bundle(pairs), torch.tensor([1.0, 0, -1]))


def test_pooling_sums_few_layers_and_the_centroids_of_many():
    x = torch.randn(4, 9, 6, generator=draw(0))
    assert torch.equal(pooled(x, 9), x.sum(1))
    assert torch.allclose(pooled(x, 1), x.mean(1), atol=1e-6)
    near = torch.tensor([0.0, 0.1, 10.0, 10.2, 10.4])[None, :, None].expand(2, 5, 6)
    assert torch.allclose(pooled(near, 2), torch.full((2, 6), 0.05 + 10.2))


def planted(combinations, *, seed: int = 0):
    """(a module that passes on what it is given, the inputs, their bindings): a vector for the colour and one for the shape
    are added up at the last of 3 tokens."""
    generator = draw(seed)
    vectors = {word: torch.randn(16, generator=generator) for word in (*COLOURS, *SHAPES)}
    x = torch.randn(len(combinations), 3, 16, generator=generator)
    for row, (colour, shape) in enumerate(combinations):
        x[row, 2] = vectors[colour] + vectors[shape] + 0.1 * x[row, 2]
    module = nn.Sequential(nn.Identity(), nn.Identity())
    subject = wrap(module, sites={"layers.0.resid_post": "0", "layers.1.resid_post": "1"}, example=x[:2])
    return subject, x, [{"colour": colour, "shape": shape} for colour, shape in combinations]


@pytest.fixture(scope="module")
def fitted():
    """A probe of a planted subject that has not seen three of the combinations, with these."""
    kept = {("r", "1"), ("g", "3"), ("m", "5")}
    seen = [pair for pair in product(COLOURS, SHAPES) if pair not in kept]
    subject, x, bindings = planted(seen * 8 + sorted(kept) * 8)
    probe = hd_probe(subject, x[: len(seen) * 8], bindings[: len(seen) * 8], **SMALL)
    return subject, probe, x[len(seen) * 8 :], bindings[len(seen) * 8 :]


def test_what_is_bound_is_read_in_combinations_never_seen(fitted):
    subject, probe, x, bindings = fitted
    states = probe.states(subject, x)
    assert [str(site) for site in probe.sites] == ["layers.1.resid_post"]
    for role in ("colour", "shape"):
        found = probe.query(states, role)
        assert list(found.concepts) == [one[role] for one in bindings]
        assert found.similarity.min() > 0.2 and found.similarity.max() < 1
        assert torch.equal(found.similarity, probe.similarities(states, role).max(1).values)
    each = ["colour", "shape"] * (len(states) // 2)
    assert list(probe.query(states, each).concepts) == [one[role] for one, role in zip(bindings, each, strict=True)]


def test_nothing_stands_under_a_role_that_was_not_bound(fitted):
    subject, probe, x, _ = fitted
    states = probe.states(subject, x)
    wrong = dataclasses.replace(probe, role_vectors=hypervectors(2, 256, draw(9)))
    assert wrong.query(states, "colour").similarity.mean() < probe.query(states, "colour").similarity.mean() / 2


def test_with_one_pair_a_prompt_similarity_is_low_where_the_state_is_torn(fitted):
    subject, _, _, _ = fitted
    _, x, bindings = planted(list(product(COLOURS, SHAPES)) * 4)
    probe = hd_probe(subject, x, [{"colour": one["colour"]} for one in bindings], **SMALL)
    states = probe.states(subject, x)
    red, green = (states[[one["colour"] == colour for one in bindings]] for colour in "rg")
    sure = [probe.query(some, "colour").similarity.mean() for some in (red, green)]
    assert probe.query((red + green) / 2, "colour").similarity.mean() < min(sure) - 0.05


def test_shuffled_bindings_teach_nothing(fitted):
    subject, _, x, bindings = fitted
    order = torch.randperm(len(x), generator=draw(1)).tolist()
    shuffled = hd_probe(subject, x, [bindings[number] for number in order], **SMALL | {"rows": 64 * 20}, seed=1)
    fresh_subject, fresh, truth = planted([pair for pair in product("rgm", "135")] * 4)
    assert fresh_subject.fingerprint == subject.fingerprint
    found = shuffled.query(shuffled.states(subject, fresh), "colour").concepts
    assert sum(a == one["colour"] for a, one in zip(found, truth, strict=True)) < 0.7 * len(truth)


def test_the_same_seed_gives_the_same_probe_and_another_another():
    subject, x, bindings = planted(list(product(COLOURS, SHAPES)))
    small = SMALL | {"rows": 640}
    one, same, other = (hd_probe(subject, x, bindings, **small, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one.encode(x[:, 2]), same.encode(x[:, 2]))
    assert not torch.equal(one.role_vectors, other.role_vectors)


def test_it_is_saved_and_opened_and_a_change_is_seen(fitted, tmp_path):
    subject, probe, x, _ = fitted
    content = probe.save(tmp_path / "probe")
    again = HDProbe.open(tmp_path / "probe")
    assert again.save(tmp_path / "again") == content and again.sites == probe.sites and again.concepts == probe.concepts
    states = again.states(subject, x)
    assert torch.equal(again.similarities(states, "shape"), probe.similarities(states, "shape"))
    manifest = json.loads((tmp_path / "probe" / "manifest.json").read_text())
    (tmp_path / "probe" / "manifest.json").write_text(json.dumps({**manifest, "extra": {"a": 1}}))
    with pytest.raises(Corrupt):
        HDProbe.open(tmp_path / "probe")


def test_text_is_read_at_its_last_token_whatever_stands_beside_it_in_the_batch():
    subject = load("pocket-mini")
    texts = ["Mary went home", "The cat sat on the mat and then it slept for a while"] * 4
    probe = hd_probe(subject, texts, [{"who": "Mary"}, {"who": "cat"}] * 4, **SMALL | {"rows": 640})
    states = probe.states(subject, texts)
    assert len(probe.sites) == 2
    assert torch.allclose(states[0], probe.states(subject, texts[:1])[0], atol=1e-4)
    assert torch.allclose(states, probe.states(subject, subject.prepare(texts)), atol=1e-4)
    acts = subject.run(subject.prepare(texts[:1]), read=probe.sites).acts
    assert torch.allclose(states[0], sum(acts[site][0, -1] for site in probe.sites), atol=1e-4)
    assert probe.query(states, "who").concepts[:2] == ("Mary", "cat")


def test_another_subject_is_refused(fitted):
    _, probe, x, _ = fitted
    module = nn.Sequential(nn.Linear(16, 16), nn.Identity())
    other = wrap(module, sites={"layers.0.resid_post": "0", "layers.1.resid_post": "1"}, example=x)
    with pytest.raises(WrongSubject, match="fit a probe on this one"):
        probe.states(other, x)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bindings": [{"colour": "r"}]}, "4 prompts and 1 bindings"),
        ({"bindings": [{}] * 4}, "binding 0 is empty"),
        ({"bindings": []}, "no bindings given"),
        ({"roles": ["shape"]}, "'colour' is no role"),
        ({"concepts": ["x"]}, "'r' is no concept"),
        ({"concepts": ["r", "r"]}, "name one twice"),
        ({"clusters": 0}, "clusters=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"sites": []}, "has no site resid_post"),
        ({"prompts": torch.zeros(0, 3, 16)}, "No prompts"),
    ],
)
def test_what_cannot_be_is_refused(change: dict, says: str):
    subject, x, _ = planted([("r", "1")] * 4)
    given = {"prompts": x, "bindings": [{"colour": "r"}] * 4, **SMALL, **change}
    with pytest.raises(BadInput, match=says):
        hd_probe(subject, given.pop("prompts"), given.pop("bindings"), **given)


def test_states_that_are_not_numbers_and_roles_and_sites_that_are_not_there_are_refused(fitted):
    subject, probe, x, _ = fitted
    with pytest.raises(NotFinite):
        probe.states(subject, Inputs(embeds=torch.full_like(x, torch.nan)))
    states = probe.states(subject, x)
    with pytest.raises(BadInput, match="did you mean colour"):
        probe.query(states, "color")
    with pytest.raises(BadInput, match=f"2 roles asked of {len(x)}"):
        probe.query(states, ["colour", "shape"])
    with pytest.raises(UnknownSite):
        hd_probe(subject, x, [{"colour": "r"}] * len(x), sites=["layers.7.resid_post"])


def test_another_artifact_is_no_probe(tmp_path):
    from actscope.core import artifact

    artifact.save({"a": 1.0}, tmp_path)
    with pytest.raises(BadInput, match="holds no hyperdimensional probe"):
        HDProbe.open(tmp_path)
