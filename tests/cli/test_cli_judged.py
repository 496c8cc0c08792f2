"""actscope score on explanations, and measures that need labels."""

import json
from pathlib import Path

import pytest

from actscope.cli import main
from actscope.core import artifact
from actscope.core.methods import find
from actscope.core.store import split_documents
from actscope.corpora.files import files
from actscope.dictionaries.topk import TopK
from actscope.stores.capture import capture
from actscope.subjects.load import load

SITE = "layers.0.mlp_out"
WORDS = ["red [blue]", "the cat sat", "one (two) three", "While Anna", "def get(self):\n    return 1\n"]


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, str]:
    """Folders of a dictionary that was never trained, a store on pocket-mini and what latents fire on; the text, with cats."""
    root = tmp_path_factory.mktemp("judged")
    lines = []
    for number in range(90):
        text = " ".join(WORDS[(number * step + step) % 5] for step in range(1, 7)) + f" {number}"
        start = text.find("cat")
        spans = [{"start": start, "end": start + 3, "label": "animal"}] if start >= 0 else []
        lines.append(json.dumps({"text": text, "spans": spans}))
    (root / "text.jsonl").write_text("\n".join(lines) + "\n")
    subject = load("pocket-mini")
    store = capture(subject, files(root / "text.jsonl"), [SITE], out=root / "store")
    dictionary = TopK(reads={SITE: subject.sites[next(iter(store.ports)).site].width}, n_latents=32, k=4).eval()
    dictionary.subject = subject.fingerprint
    artifact.save(dictionary, root / "dictionary")
    places = {name: str(root / name) for name in ("dictionary", "store", "explained", "text.jsonl")}
    flags = ["--model", "pocket-mini", "--contexts", "20", "--leaves", "1", "--out", places["explained"]]
    assert main(["explain", places["dictionary"], places["store"], *flags]) == 0
    return places


def judged(places, *flags: str) -> list[str]:
    return ["score", places["explained"], places["store"], "--model", "pocket-mini", *flags]


def test_explanations_are_judged_on_the_documents_kept_aside(places, capsys, tmp_path: Path):
    capsys.readouterr()
    out = str(tmp_path / "more")
    assert main(judged(places, "--measure", "detection", "--measure", "fuzzing", "--out", out, "--json")) == 0
    said = json.loads(capsys.readouterr().out)
    store, explanations = artifact.open(places["store"]), artifact.open(places["explained"])
    report = split_documents(store, 3, seed=0)[2]
    given = (artifact.open(places["dictionary"]), load("pocket-mini"), store)
    mine = find("scores.explanation", "fuzzing")(explanations, *given, documents=report)
    each = {one["latent"]: one for one in said["features"]}
    assert {latent: one.value for latent, one in mine.items()} == {
        latent: one["fuzzing"] for latent, one in each.items() if "fuzzing" in one
    }
    whole = {one["name"]: one for one in said["scores"]}
    values = [one.value for one in mine.values()]
    assert whole["fuzzing"]["value"] == pytest.approx(sum(values) / len(values)) and whole["fuzzing"]["n"] == len(values)
    low, high = whole["fuzzing"]["interval"]
    assert low < whole["fuzzing"]["value"] < high and 0.4 < whole["fuzzing"]["control"] < 0.6
    kept = artifact.open(out)
    assert [one.latent for one in kept] == [one.latent for one in explanations]
    assert {score.name for score in kept[0].scores} == {"detection", "fuzzing"}
    assert artifact.read_manifest(out)["extra"] == artifact.read_manifest(places["explained"])["extra"]
    assert main(judged(places)) == 0
    assert "detection" in capsys.readouterr().out
    assert main(judged(places, "--judge", "embedding")) == 0
    assert "detection" in capsys.readouterr().out
    with pytest.warns(UserWarning, match="None of the .* could be judged by fuzzing"):
        assert main(judged(places, "--measure", "fuzzing", "--contexts", "100000")) == 0
    capsys.readouterr()
    with pytest.warns(UserWarning, match="could be judged by detection"):  # what it said of other text does not stand in
        assert main(judged(places, "--measure", "detection", "--contexts", "100000", "--json")) == 0
    assert json.loads(capsys.readouterr().out)["scores"] == []


def test_labels_come_from_the_text_that_was_captured(places, capsys, tmp_path: Path):
    capsys.readouterr()
    command = ["score", places["dictionary"], places["store"], "--model", "pocket-mini", "--json"]
    assert main([*command, "--measure", "sparse_probing", "--least", "5", "--labels", places["text.jsonl"]]) == 0
    [found] = json.loads(capsys.readouterr().out)
    assert [name for name in found["parts"] if name.startswith("label:")] == ["label:animal"] and found["value"] > 0.8
    assert main([*command, "--measure", "unlearning", "--labels", places["text.jsonl"], "--forget", "plant"]) == 3
    assert "there are animal" in capsys.readouterr().err
    other = tmp_path / "other.jsonl"
    other.write_text('{"text": "another text"}\n')
    assert main([*command, "--measure", "sparse_probing", "--labels", str(other)]) == 3
    assert "labels stand in the text that was captured" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--measure", "named_cause"], "give --labels"),
        (["--measure", "fuzzing", "--other", "x"], "--other belongs to a dictionary"),
        (["--judge", "language_model"], "--explainer-model is missing"),
        (["--endpoint", "http://localhost:1"], "asks nobody"),
        (["--measure", "fuzzing", "--measure", "clarity", "--contexts", "9"], "a setting belongs to one"),
        (["--measure", "fuzzing", "--context", "9"], "no setting --context; did you mean --contexts"),
    ],
)
def test_what_cannot_be_asked_of_explanations_is_said(places, capsys, flags, says):
    assert main(judged(places, *flags)) == 2
    assert says in capsys.readouterr().err


def test_what_belongs_to_explanations_is_refused_of_a_dictionary(places, capsys):
    command = ["score", places["dictionary"], places["store"], "--model", "pocket-mini", "--judge", "language_model"]
    assert main(command) == 2
    assert "belong to explanations" in capsys.readouterr().err
