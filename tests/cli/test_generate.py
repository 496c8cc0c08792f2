"""`actscope generate`: what a user sees."""

import json

import pytest

from actscope.cli import main
from actscope.subjects.engine import generate
from actscope.subjects.load import load


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["generate", "pocket-mini", *arguments])
    return code, *capsys.readouterr()


def test_one_prompt_is_printed_with_what_follows(capsys):
    code, out, err = run(capsys, "--prompt", "def f(x):", "--tokens", "12")
    expected = generate(load("pocket-mini"), "def f(x):", tokens=12).text[0]
    assert (code, err) == (0, "") and out == f"def f(x):{expected}\n"


def test_several_prompts_are_told_apart(capsys):
    code, out, _ = run(capsys, "--prompt", "def f(x):", "--prompt", "The", "--tokens", "5")
    assert code == 0 and out.startswith("1  5 tokens, as many as asked for, -") and "\n\n2  5 tokens" in out
    assert "def f(x):" in out and "\nThe" in out


def test_json_is_one_document_with_every_token(capsys):
    settings = ("--prompt", "The", "--tokens", "6", "--temperature", "0.8", "--top-k", "40", "--top-p", "0.9", "--samples", "2")
    code, out, _ = run(capsys, *settings, "--seed", "3", "--json")
    found = json.loads(out)
    expected = generate(load("pocket-mini"), ["The", "The"], tokens=6, temperature=0.8, top_k=40, top_p=0.9, seed=3)
    assert code == 0 and found["model"] == "pocket-mini"
    assert [row["ids"] for row in found["rows"]] == [row.tolist() for row in expected.ids]
    assert [row["text"] for row in found["rows"]] == list(expected.text)
    assert all(len(row["pieces"]) == len(row["logprobs"]) == len(row["ids"]) for row in found["rows"])
    _, again, _ = run(capsys, *settings, "--seed", "4", "--json")
    assert json.loads(again)["rows"] != found["rows"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "--prompt"),
        (["--prompt", "a", "--samples", "2"], 2, "would all be the same; give --temperature"),
        (["--prompt", "a", "--top-k", "5"], 3, "no effect at temperature 0"),
        (["--prompt", "a", "--tokens", "0"], 3, "tokens=0; expected"),
        (["--prompt", "word " * 200], 3, "leaves no room to generate"),
    ],
)
def test_what_cannot_be_ends_in_one_sentence(capsys, arguments, code, says):
    found, out, err = run(capsys, *arguments)
    assert (found, out) == (code, "") and says in err.replace("\n", " ")


def test_asked_to_stop_it_stops_and_says_so(capsys, monkeypatch):
    asked = iter([False, False, True])
    monkeypatch.setattr("actscope.subjects.engine.stop_requested", lambda: next(asked))
    code, out, err = run(capsys, "--prompt", "The", "--tokens", "12")
    assert (code, out) == (4, "") and "Stopped after 2 tokens of each row; nothing is saved." in err
