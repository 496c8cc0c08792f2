"""A verdict for every site, and the right ones told from the wrong."""

import json
from dataclasses import replace

import pytest
import torch
from tests.subjects._families import made

from actscope.cli import main
from actscope.core.site import Site
from actscope.subjects import load as load_module
from actscope.subjects.hf import HFSubject
from actscope.subjects.module import wrap
from actscope.subjects.verify import verify


@pytest.fixture(scope="module")
def llama() -> HFSubject:
    return HFSubject(made("llama"), name="llama")


def swapped(subject: HFSubject, one: str, other: str) -> HFSubject:
    """A subject whose sites of two kinds are named after each other."""
    taps = dict(subject.taps)
    for site in subject.taps:
        if site.kind == one:
            pair = replace(site, kind=other)
            taps[site], taps[pair] = subject.taps[pair], subject.taps[site]
    wrong = HFSubject(subject.model, name="wrong")
    wrong.taps = taps
    wrong.sites = {site: tap.info for site, tap in taps.items()}
    return wrong


def test_every_site_of_a_right_subject_holds(llama):
    verdicts = verify(llama)
    assert [one.site for one in verdicts] == list(llama.order)
    assert all(one.holds and len(one.measures) > 5 and 0 <= one.apart <= 1e-5 and not one.why for one in verdicts)


@pytest.mark.parametrize(
    "pair",
    [
        ("mlp_pre", "mlp_up"),
        ("q", "q_rot"),
        *(pytest.param(pair, marks=pytest.mark.full) for pair in (("attn_in", "mlp_in"), ("attn_out", "mlp_out"), ("k", "v"))),
    ],
    ids="-".join,
)
def test_sites_named_after_each_other_fail(llama, pair):
    wrong = {one.site.kind for one in verify(swapped(llama, *pair)) if not one.holds}
    assert set(pair) & wrong, f"{pair} swapped, and only {wrong} fail"


def test_a_site_of_another_layer_fails(llama):
    wrong = HFSubject(llama.model, name="wrong")
    site = Site("mlp_post", 1)
    wrong.taps = {**wrong.taps, site: wrong.taps[Site("mlp_post", 2)]}
    found = {one.site: one for one in verify(wrong)}
    assert not found[site].holds and "products" not in found[site].why and found[site].why
    assert found[Site("attn_scores", 0)].holds, "a site that has nothing to do with it is blamed"


def test_a_place_of_which_nothing_is_known_is_not_called_right():
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4))
    subject = wrap(net, sites=["0"], example=torch.zeros(1, 2, 4))
    subject.taps[Site("module:9:out")] = subject.taps[Site("module:0:out")]
    subject.order = (*subject.order, Site("module:9:out"))
    found = {str(one.site): one for one in verify(subject, ids=torch.randn(3, 8, 4))}
    assert not found["module:9:out"].holds and found["module:9:out"].why


def test_the_command_prints_a_verdict_per_kind_and_exits_6_for_a_wrong_site(llama, monkeypatch, capsys):
    monkeypatch.setattr(load_module, "load", lambda name: llama)
    assert main(["sites", "llama", "--verify"]) == 0
    said = capsys.readouterr().out
    assert f"{len(llama.order)} of {len(llama.order)} sites" in said and "0 to 2" in said and "fails" not in said
    monkeypatch.setattr(load_module, "load", lambda name: swapped(llama, "mlp_pre", "mlp_up"))
    assert main(["sites", "llama", "--verify", "--json"]) == 6
    said = capsys.readouterr()
    told = json.loads(said.out)
    wrong = {row["site"] for row in told["sites"] if not row["holds"]}
    assert not told["holds"] and {"layers.0.mlp_pre", "layers.0.mlp_up"} <= wrong < {str(site) for site in llama.order}
    assert "Do not use them" in said.err
