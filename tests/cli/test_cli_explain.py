"""actscope explain on a store and a dictionary on disk."""

import json
from pathlib import Path

import pytest

from actscope.cli import main
from actscope.core import artifact
from actscope.core.explanation import Explanation
from actscope.corpora.texts import texts
from actscope.dictionaries.topk import TopK
from actscope.stores.capture import capture
from actscope.subjects.load import load

SITE = "layers.0.mlp_out"


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> tuple[str, str]:
    """Folders of a dictionary that was never trained and of a store, on pocket-mini; a latent then fires on few tokens."""
    root = tmp_path_factory.mktemp("explain")
    subject = load("pocket-mini")
    words = ["red [blue]", "the cat sat", "one (two) three", "While Anna", "def get(self):\n    return 1\n"]
    corpus = texts([" ".join(words[(number * step + step) % 5] for step in range(1, 7)) + f" {number}" for number in range(60)])
    store = capture(subject, corpus, [SITE], out=root / "store")
    dictionary = TopK(reads={SITE: subject.sites[store_site(store)].width}, n_latents=32, k=4).eval()
    dictionary.subject = subject.fingerprint
    artifact.save(dictionary, root / "dictionary")
    return str(root / "dictionary"), str(root / "store")


def store_site(store):
    return next(iter(store.ports)).site


def test_it_says_what_latents_fire_on_and_saves_it(places, tmp_path: Path, capsys):
    out = tmp_path / "explained"
    flags = ["--model", "pocket-mini", "--contexts", "20", "--out", str(out)]
    assert main(["explain", *places, *flags, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["asked"] == 32 and 0 < said["explained"] <= 32
    feature = said["features"][0]
    assert feature["meaning"].startswith("fires on ") and feature["detection"] > 0.8
    assert 0.4 < feature["detection_shuffled"] < 0.6 and feature["tried"]["candidates"] > 100
    saved = artifact.open(out)
    assert [one.latent for one in saved] == [one["latent"] for one in said["features"]]
    assert all(isinstance(one, Explanation) and one.rule is not None for one in saved)
    assert main(["explain", *places, *flags]) == 0
    shown = capsys.readouterr().out
    assert feature["meaning"].removeprefix("fires on ")[:12] in shown and f"actscope show {out}" in shown


def test_a_dry_run_writes_nothing(places, tmp_path: Path, capsys):
    out = tmp_path / "explained"
    assert main(["explain", *places, "--out", str(out), "--dry-run"]) == 0
    assert "32 latents" in capsys.readouterr().out and not out.exists()


@pytest.mark.parametrize(
    "arguments, word",
    [
        (lambda d, s: [s, s], "expected a dictionary"),
        (lambda d, s: [d, d], "expected a store"),
        (lambda d, s: [d + "-none", s], "not a saved artifact"),
        (lambda d, s: [d, s, "--method", "rulez"], "did you mean rules"),
        (lambda d, s: [d, s, "--model", "pocket"], "fingerprint"),
        (lambda d, s: [d, s, "--model", "pocket-mini", "--latents", "99"], "0 to 31"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_3(places, capsys, arguments, word: str):
    assert main(["explain", *arguments(*places)]) == 3
    error = capsys.readouterr().err
    assert word in error and "Traceback" not in error
