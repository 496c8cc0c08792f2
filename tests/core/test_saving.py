"""Artifacts: what is saved comes back, what was altered is found, what cannot be saved is named."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core import artifact
from actscope.core.change import Change, Delta
from actscope.core.codes import Codes
from actscope.core.errors import BadInput, Corrupt
from actscope.core.explanation import Explanation
from actscope.core.intervention import Add, Replace
from actscope.core.score import Score
from actscope.core.site import Site

SITE = Site("mlp_out", 1)
SCORES = [Score(name="fvu", definition="fvu@1", value=0.25, unit="share", better="lower", n=10, interval=(0.2, 0.3))]


class Bare:
    """An intervention that only lives in this process."""

    site, reads = SITE, ()

    def __call__(self, x, context):
        return x


def test_values_come_back_with_their_tensors(tmp_path):
    change = Change(
        interventions=(Add(SITE, torch.arange(3.0), scale=2.0), Replace(SITE, torch.ones(1, 3))),
        weights={"w": Delta(torch.eye(2), replaces=True)},
        origin="by hand",
    )
    artifact.save([change, *SCORES], tmp_path / "x")
    back, score = artifact.open(tmp_path / "x")
    assert score == SCORES[0] and back.origin == "by hand" and back.interventions[0].scale == 2.0
    assert torch.equal(back.interventions[0].value, torch.arange(3.0)) and back.interventions[1].site == SITE
    assert torch.equal(back.weights["w"].value, torch.eye(2)) and back.weights["w"].replaces


def test_saving_what_was_opened_gives_the_same_content(tmp_path):
    change = Change(interventions=(Add(SITE, torch.randn(4)),))
    first = artifact.save(change, tmp_path / "a")
    assert artifact.save(artifact.open(tmp_path / "a"), tmp_path / "b") == first
    assert artifact.save(Change(interventions=(Add(SITE, torch.zeros(4)),)), tmp_path / "c") != first


def test_saving_again_replaces_and_leaves_only_garbage_that_gc_knows(tmp_path):
    for value in (0.0, 1.0):
        artifact.save(Change(interventions=(Add(SITE, torch.full((3,), value)),)), tmp_path / "x")
    assert artifact.open(tmp_path / "x").interventions[0].value.tolist() == [1, 1, 1]  # type: ignore[attr-defined]
    named = artifact.read_manifest(tmp_path / "x")["files"]
    left = {path.name for path in (tmp_path / "x").iterdir()} - {"manifest.json", "about.json", *named}
    assert {path.name for path in artifact.garbage(tmp_path / "x")} == left


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(PLAIN)
@settings(deadline=None, max_examples=100)
def test_packing_is_undone_exactly(value):
    tensors = {}
    packed = json.loads(json.dumps(artifact.pack(value, tensors)))
    assert artifact.unpack(packed, tensors) == value and not tensors


@pytest.mark.parametrize(
    "thing", [print, object(), {1, 2}, Change(interventions=(Bare(),)), [b"bytes"]], ids=lambda thing: type(thing).__name__
)
def test_what_cannot_be_saved_is_named_and_nothing_is_written(tmp_path, thing):
    with pytest.raises(BadInput, match="cannot be saved"):
        artifact.save(thing, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_folder_with_other_things_is_not_touched(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="holds other things"):
        artifact.save(SCORES, tmp_path)
    with pytest.raises(BadInput, match="is a file"):
        artifact.save(SCORES, tmp_path / "mine.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_no_artifact_and_a_newer_one_are_said(tmp_path):
    with pytest.raises(BadInput, match="is not a saved artifact"):
        artifact.open(tmp_path)
    artifact.save(SCORES, tmp_path / "x")
    manifest = json.loads((tmp_path / "x" / "manifest.json").read_text())
    (tmp_path / "x" / "manifest.json").write_text(json.dumps({**manifest, "format": artifact.FORMAT + 1}))
    with pytest.raises(Corrupt, match="Install a newer actscope"):
        artifact.open(tmp_path / "x")


@pytest.mark.parametrize("seed", range(20))
def test_an_altered_artifact_is_never_opened(tmp_path, seed):
    artifact.save(Change(interventions=(Add(SITE, torch.arange(8.0)),)), tmp_path / "x")
    draw = torch.Generator().manual_seed(seed)
    path = sorted(path for path in (tmp_path / "x").iterdir() if path.name != "about.json")[seed % 2]
    data = bytearray(path.read_bytes())
    data[int(torch.randint(len(data), (1,), generator=draw))] ^= 1 << int(torch.randint(8, (1,), generator=draw))
    path.write_bytes(data)
    before = json.loads((tmp_path / "x" / "manifest.json").read_text()) if path.name != "manifest.json" else None
    try:
        artifact.open(tmp_path / "x")
    except (Corrupt, BadInput):
        assert before is None or artifact.damaged(tmp_path / "x") == {path.name: "its SHA-256 differs"}
    else:  # only white space may change and mean the same
        assert path.name == "manifest.json" and json.loads(data) == json.loads((tmp_path / "x" / "manifest.json").read_bytes())
        assert artifact.content_hash(json.loads(data)) == json.loads(data)["content"]


def test_a_manifest_cannot_name_a_file_outside(tmp_path):
    (tmp_path / "secret.safetensors").write_bytes(b"")
    manifest = {"kind": "values", "value": None, "files": {"../secret.safetensors": "0" * 64}, "extra": {}}
    artifact.commit(tmp_path / "x", manifest)
    for call in (artifact.open, artifact.damaged):
        with pytest.raises(BadInput, match="leaves the folder"):
            call(tmp_path / "x")


def test_a_value_of_an_unknown_kind_is_refused(tmp_path):
    artifact.commit(tmp_path / "x", {"kind": "values", "value": {"$value": "os.system", "x": 1}, "files": {}, "extra": {}})
    with pytest.raises(Corrupt, match="unknown kind 'os.system'"):
        artifact.open(tmp_path / "x")


def test_explanations_come_back(tmp_path):
    given = [Explanation(latent=3, text="fires on days", rule=None, method="rules", evidence={"n": 3}, scores=tuple(SCORES))]
    artifact.save(given, tmp_path / "x")
    assert artifact.open(tmp_path / "x") == given


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_codes_agree_with_their_dense_form(data):
    n, m = data.draw(st.integers(0, 6)), data.draw(st.integers(1, 7))
    numbers = data.draw(st.lists(st.sampled_from([0.0, 0.0, 1.0, -2.0, 0.5]), min_size=n * m, max_size=n * m))
    dense = torch.tensor(numbers, dtype=torch.float32).reshape(n, m)
    codes = Codes.from_dense(dense)
    assert torch.equal(codes.dense(), dense) and len(codes) == n
    index, value = codes.padded()
    back = torch.zeros(n, m).scatter_add(1, index, value)
    assert torch.equal(back, dense)
    if n:
        assert torch.equal(Codes.from_padded(index, value, m).dense(), dense)
        cut = data.draw(st.integers(0, n))
        assert torch.equal(Codes.cat([Codes.from_dense(dense[:cut]), Codes.from_dense(dense[cut:])]).dense(), dense)
    latent = data.draw(st.integers(0, m - 1))
    assert torch.equal(codes.column(latent), dense[:, latent])
    gone = dense.clone()
    gone[:, latent] = 0
    assert torch.equal(codes.without(latent).dense(), gone)
