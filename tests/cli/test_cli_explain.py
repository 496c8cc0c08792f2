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
from fake_server import FakeServer

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
    flags = ["--model", "pocket-mini", "--contexts", "20", "--out", str(out), "--leaves", "1"]
    assert main(["explain", *places, *flags, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["asked"] == 32 and 0 < said["explained"] <= 32
    feature = said["features"][0]
    assert feature["meaning"].startswith("fires on ") and feature["detection"] > 0.8
    assert 0.4 < feature["detection_shuffled"] < 0.6 and feature["tried"]["candidates"] > 100
    saved = artifact.open(out)
    assert [one.latent for one in saved] == [one["latent"] for one in said["features"]]
    assert all(isinstance(one, Explanation) and one.rule is not None for one in saved)
    assert main(["explain", *places, *flags, "--latents", str(feature["latent"])]) == 0
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


def test_a_language_model_is_asked_within_its_budget_and_goes_on_where_it_stopped(places, tmp_path: Path, capsys):
    out = tmp_path / "named"
    with FakeServer() as server:
        flags = ["--model", "pocket-mini", "--contexts", "20", "--out", str(out), "--json", "--method", "language_model"]
        asks = ["--endpoint", server.url, "--explainer-model", "m", "--judge", "none"]
        asks += ["--price-in", "0", "--price-out", "1000000"]
        some = [flag for latent in range(16) for flag in ("--latents", str(latent))]
        command = ["explain", *places, *flags, *asks, *some, "--asks", "1", "--concurrent", "1"]
        assert main([*command, "--dry-run"]) == 0
        latents = json.loads(capsys.readouterr().out)["would_cost"]["questions"]
        assert latents > 3 and not server.seen and not list(tmp_path.iterdir())
        assert main([*command, "--budget", "330"]) == 4  # an answer costs 20 and may cost 300
        said = capsys.readouterr()
        assert json.loads(said.out)["explained"] == 2 == len(artifact.open(out)) and "budget of 330" in said.err
        assert main([*command, "--budget", "10000"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["explained"] == latents == len(server.seen) == len(set(server.seen)) == len(artifact.open(out))
        assert said["answers"]["verdicts"] == {"used": latents} and said["answers"]["spent"]["money"] == 20 * latents
        assert main([part for part in command if part != "--json"]) == 0
        assert "verbs in the past tense" in capsys.readouterr().out and len(server.seen) == latents


@pytest.mark.parametrize(
    "flags, word",
    [
        (["--method", "language_model"], "--explainer-model is missing"),
        (["--method", "language_model", "--explainer-model", "m", "--endpoint", "http://h/v1"], "--out is missing"),
        (["--method", "language_model", "--explainer-model", "m", "--endpoint", "http://h/v1", "--budget", "1"], "--price-in"),
        (["--endpoint", "http://h/v1"], "rules asks nobody"),
        (["--leeves", "2"], "did you mean --leaves"),
        (["--method", "language_model", "--documents", "1"], "cannot be typed"),
    ],
)
def test_flags_that_cannot_be_are_one_sentence_and_exit_code_2(places, capsys, tmp_path: Path, flags: list[str], word: str):
    out = ["--out", str(tmp_path / "out")] if "--budget" in flags else []
    assert main(["explain", *places, "--model", "pocket-mini", *flags, *out]) == 2
    assert word in capsys.readouterr().err


def test_a_setting_of_the_method_is_a_flag(places, capsys):
    flags = ["--model", "pocket-mini", "--contexts", "20", "--leaves", "1", "--latents", "0", "--json"]
    assert main(["explain", *places, *flags]) == 0
    assert json.loads(capsys.readouterr().out)["asked"] == 1


def test_what_explains_images_is_called_from_python(places, capsys):
    assert main(["explain", *places, "--method", "prototypes"]) == 2
    assert "needs images, labels" in capsys.readouterr().err
