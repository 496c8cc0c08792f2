"""`actscope sites MODEL`: every site of the model, and why others are not there."""

import json

import pytest

from actscope.cli import main
from actscope.subjects.load import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    path = tmp_path_factory.mktemp("tiny")
    config = GPTNeoXConfig(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20)
    GPTNeoXForCausalLM(config).save_pretrained(path)
    return path


def test_the_table_has_a_line_for_every_site(folder, capsys):
    assert main(["sites", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for site, info in load(folder).sites.items():
        (line,) = [line for line in lines if line.split() and line.split()[0] == str(site)]
        assert info.module in line and (site.lens or "-") in line
        assert "[" + " ".join(map(str, info.shape)) + "]" in line
    assert any("resid_mid" in line and "parallel residual" in line for line in lines)
    assert any("router" in line and "no experts" in line for line in lines)


def test_json_is_one_document(folder, capsys):
    assert main(["sites", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    subject = load(folder)
    assert [row["site"] for row in told["sites"]] == [str(site) for site in subject.order]
    assert told["fingerprint"] == subject.fingerprint and {row["site"] for row in told["missing"]} == set(subject.missing)


def test_what_is_no_model_ends_in_one_sentence_and_code_3(tmp_path, capsys):
    assert main(["sites", str(tmp_path / "none")]) == 3
    said = capsys.readouterr()
    assert not said.out and "no folder" in said.err and "pocket" in said.err
