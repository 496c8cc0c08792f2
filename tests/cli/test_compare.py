"""`actscope compare`: methods trained alike and judged on the same numbers."""

import json
import re

import pytest

from actscope.cli import main

FLAGS = ("--model", "pocket-mini", "--tokens", "4000", "--held", "4000", "--rows", "8000", "--latents", "64", "--batch", "256")


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare") / "c"
    command = ["compare", "topk", "pca", *FLAGS, "--k", "4", "--k", "8", "--seeds", "2", "--out", str(out)]
    assert main(command) == 0
    return out, command, json.loads((out / "comparison.json").read_text())


def test_each_method_has_a_line_for_each_k_and_every_measure(compared):
    lines = compared[2]["lines"]
    assert [(line["method"], line["settings"].get("k")) for line in lines] == [("topk", 4), ("topk", 8), ("pca", None)]
    for line in lines:
        assert {"fvu", "l0", "dead", "recovered", "seconds"} <= line["measures"].keys()
        low, high = line["measures"]["fvu"]["interval"]
        assert low <= line["measures"]["fvu"]["value"] <= high
    four, eight, pca = (line["measures"] for line in lines)
    assert four["l0"]["value"] <= 4 < eight["l0"]["value"] <= 8 < pca["l0"]["value"]
    assert pca["fvu"]["value"] < eight["fvu"]["value"] < four["fvu"]["value"] < 1


def test_the_rate_is_the_best_of_those_tried_and_pca_has_none(compared):
    *learned, pca = compared[2]["lines"]
    assert pca["rate"] is None and pca["tried"] == []
    for line in learned:
        assert len(line["tried"]) == 3 and line["rate"] == min(line["tried"], key=lambda pair: pair[1])[0]


@pytest.mark.full
def test_a_method_trained_on_gradients_is_judged_without_and_with_them(tmp_path):
    out = tmp_path / "c"
    assert main(["compare", "topk", "gradient_sae", *FLAGS, "--k", "8", "--seeds", "2", "--out", str(out)]) == 0
    lines = json.loads((out / "comparison.json").read_text())["lines"]
    topk, without, with_them = lines
    assert [line["settings"].get("inference") for line in lines] == [None, None, "gradient"]
    assert with_them["method"] == "gradient_sae" and "recovered" in without["measures"]
    assert with_them["measures"]["fvu"]["value"] != without["measures"]["fvu"]["value"]
    assert topk["measures"]["fvu"]["value"] < with_them["measures"]["fvu"]["value"] < 1  # it chooses by more than the error


@pytest.mark.full
def test_again_it_says_the_same(compared, capsys):
    out, command, before = compared
    assert main([*command, "--json"]) == 0
    after = json.loads(capsys.readouterr().out)
    assert after["lines"] == before["lines"]


def test_the_page_needs_nothing_else_and_shows_every_point(compared):
    page = (compared[0] / "comparison.html").read_text()
    assert "default-src 'none'" in page and not re.search(r"(?:src|href)=\"?http", page)
    for line in compared[2]["lines"]:
        assert repr(line["measures"]["fvu"]["value"]) in page
    assert page.count("<circle") == 3 * page.count("<svg")


def test_a_dry_run_and_what_cannot_be(tmp_path, capsys):
    assert main(["compare", "topk", *FLAGS, "--out", str(tmp_path / "c"), "--dry-run"]) == 0
    assert "topk {'n_latents': 64, 'k': 16}, 3 seeds" in capsys.readouterr().out and not (tmp_path / "c").exists()
    assert main(["compare", *FLAGS, "--out", str(tmp_path / "c")]) == 2
    assert main(["compare", "topk", "--seeds", "0", "--out", str(tmp_path / "c")]) == 2
    assert main(["compare", "tipk", *FLAGS, "--out", str(tmp_path / "c")]) == 3
    assert "did you mean topk" in capsys.readouterr().err
