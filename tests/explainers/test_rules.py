"""The rule finder names what was planted, and nothing where nothing was."""

import pytest
import torch
from planted_rules import planted

from actscope.core import artifact
from actscope.core.errors import BadInput, Interrupted, WrongSubject
from actscope.core.explanation import Explanation
from actscope.core.predicate import (
    All,
    Any,
    Earlier,
    Inside,
    LineBegins,
    Not,
    PositionIn,
    Predicate,
    Repeated,
    TokenClass,
    TokenIn,
    TokenSpelt,
)
from actscope.core.store import split_documents
from actscope.core.text import TokenText
from actscope.explainers._parts.compose import length
from actscope.explainers.rules import rules

FIVE = (" cat", " dog", " runs", " Anna", " Ben")
EIGHT = (" the", " a", " of", " and", " Monday", " Friday", "ing", "ed")
# what is planted, the words its sentence must have
PLANTED: list[tuple[Predicate, tuple[str, ...]]] = [
    (TokenIn((" Monday", " Friday", " Tuesday")), ("' Monday'", "' Friday'", "' Tuesday'")),
    (TokenIn((" the",), 1), ("what follows", "' the'")),
    (Repeated(), ("occurred earlier",)),
    (Repeated(2), ("followed the same token earlier",)),
    (Inside("(", ")"), ("between ( and )",)),
    (Inside('"', '"'), ('between " and "',)),
    (All((TokenIn(FIVE), TokenIn(EIGHT, 1))), ("' cat'", "' Ben'", "where the previous token is", "' of'")),
    (All((TokenIn(FIVE), Not(Repeated()))), (*(repr(token) for token in FIVE), "not where", "occurred earlier")),
    (TokenClass("a capitalised word"), ("a capitalised word",)),
    (TokenSpelt("ing", "ends in"), ("ends in", "ng'")),
    (Earlier((" Anna",), 8), ("at most 8 tokens after ' Anna'",)),
    (LineBegins((" the", " a", " cat")), ("lines that begin with", "' the'", "' a'", "' cat'")),
    (PositionIn(0, 7), ("8 of the text",)),
    (Any((TokenIn((" Monday",)), TokenIn((" the",), 1))), ("' Monday'", "follows", "' the'")),
]  # fmt: skip
NOISE = (0.05, 0.5)


@pytest.fixture(scope="module")
def found() -> dict[int, Explanation]:
    explained = rules(*planted([*(rule for rule, _ in PLANTED), *NOISE, 0.001], documents=900, length=80))
    assert [one.evidence["select"] for one in explained] == sorted((one.evidence["select"] for one in explained), reverse=True)
    return {one.latent: one for one in explained}


@pytest.mark.parametrize("latent", range(len(PLANTED)), ids=lambda latent: PLANTED[latent][0].sentence()[:40])
def test_a_planted_rule_is_named(found: dict[int, Explanation], latent: int):
    score = found[latent].score("detection")
    assert score.value >= 0.9 and score.interval is not None and score.interval[0] >= 0.88
    for word in PLANTED[latent][1]:
        assert word in found[latent].text, found[latent].text
    assert found[latent].text.startswith("fires on ")


@pytest.mark.parametrize("latent", [len(PLANTED), len(PLANTED) + 1])
def test_noise_is_not_explained_however_many_rules_were_tried(found: dict[int, Explanation], latent: int):
    explanation = found[latent]
    assert explanation.evidence["tried"]["candidates"] > 1000
    score = explanation.score("detection")
    assert abs(score.value - 0.5) < 0.04 and score.interval[0] < 0.5 + 0.02


def test_permuted_labels_give_chance(found: dict[int, Explanation]):
    controls = [one.score("detection").control for one in found.values()]
    assert all(0.45 <= control <= 0.55 for control in controls)
    assert len(set(controls)) > 1


def test_a_latent_with_too_few_contexts_is_left_out_and_counted(found: dict[int, Explanation]):
    assert len(PLANTED) + len(NOISE) not in found  # active on one token in a thousand
    tried = found[0].evidence["tried"]
    assert tried["asked"] == len(PLANTED) + len(NOISE) + 1 and tried["explained"] == len(found) < tried["asked"]


def test_the_evidence_points_at_places_in_the_report_documents(found: dict[int, Explanation]):
    _, _, store = planted([rule for rule, _ in PLANTED], documents=900, length=80)
    report = set(split_documents(store, 3, seed=0)[2])
    for one in found.values():
        examples = one.evidence["examples"]
        assert {document for kind in examples.values() for document, _, _ in kind} <= report
        top = [value for _, _, value in examples["top"]]
        assert top == sorted(top, reverse=True) and top[0] == pytest.approx(one.evidence["peak"])
        assert all(value == 0 for _, _, value in examples["missed"])
        splits = one.evidence["splits"]
        assert sum(split["documents"] for split in splits.values()) == 900
        assert min(split["active"] for split in splits.values()) >= 200
    tokens = {token for token, _ in found[0].evidence["top_tokens"]}
    assert tokens == {" Monday", " Friday", " Tuesday"}


def test_explanations_survive_saving(found: dict[int, Explanation], tmp_path):
    listed = list(found.values())
    artifact.save(listed, tmp_path / "explained")
    assert artifact.open(tmp_path / "explained") == listed


def test_the_report_documents_decide_nothing():
    """What latents do on the report documents changes neither the rules nor their order, only the scores."""
    dictionary, subject, store = planted([TokenIn((" the",)), TokenIn((" cat", " dog", " a"))], documents=200, length=80)
    first = rules(dictionary, subject, store)
    report = torch.isin(store.text[1][:, 0], torch.tensor(split_documents(store, 3, seed=0)[2]))
    generator = torch.Generator().manual_seed(5)
    store.features[report] = (torch.rand(int(report.sum()), 2, generator=generator) < 0.1).float()
    second = rules(dictionary, subject, store)
    assert [one.rule for one in first] == [one.rule for one in second]
    assert min(one.score("detection").value for one in first) > 0.99
    assert max(one.score("detection").value for one in second) < 0.6


def test_the_same_seed_gives_the_same_explanations_and_only_the_documents_asked_for_are_used():
    made = planted([TokenIn((" the",)), 0.1], documents=160, length=80)
    documents = range(20, 160)
    first, second = (rules(*made, documents=documents, seed=3) for _ in range(2))
    assert first == second
    assert sum(split["documents"] for split in first[0].evidence["splits"].values()) == 140


def test_what_does_not_belong_together_is_refused():
    dictionary, subject, store = planted([TokenIn((" the",))], documents=30, length=40)
    with pytest.raises(BadInput, match="0 to 0"):
        rules(dictionary, subject, store, latents=[1])
    with pytest.raises(BadInput, match="propose, select and report"):
        rules(dictionary, subject, store, documents=[0])
    dictionary.subject = "another-1"
    with pytest.raises(WrongSubject, match="another-1"):
        rules(dictionary, subject, store)


def test_it_stops_when_asked(monkeypatch):
    import actscope.explainers.rules as module

    monkeypatch.setattr(module, "stop_requested", lambda: True)
    with pytest.raises(Interrupted, match="0 of 1"):
        rules(*planted([TokenIn((" the",))], documents=60, length=80), contexts=20)


def test_what_a_latent_fires_on_most_strongly_is_said_apart():
    faint, strong = TokenIn((" cat", " dog", " the", " a", " of", " and")), TokenIn((" Anna",))
    dictionary, subject, store = planted([Any((faint, strong)), TokenIn((" Ben", " Carla"))], documents=300, length=80)
    store.features[~strong.holds(TokenText.of(store, subject)), 0] *= 0.08
    first, second = sorted(rules(dictionary, subject, store), key=lambda one: one.latent)
    assert first.rule is not None and first.score("detection").value > 0.9, "all activations are told by the rule"
    told = first.evidence["strongest"]
    assert told["rule"] == strong and told["recall"] > 0.9 and told["precision"] > 0.9
    assert first.text.endswith("; most strongly on the token ' Anna'")
    assert "strongest" not in second.evidence and "most strongly" not in second.text


def test_a_higher_beta_gives_up_precision_for_recall():
    """A latent that fires on half of the places of each of ten words, and on all of one."""
    words = tuple(f" w{i}" for i in range(10))
    made = planted([Any((TokenIn((" Anna",)), TokenIn(words)))], documents=400, length=80)
    text = TokenText.of(made[2], made[1])
    silent = TokenIn(words).holds(text) & (torch.rand(len(text), generator=torch.Generator().manual_seed(1)) < 0.8)
    made[2].features[silent] = 0.0
    narrow, wide = (rules(*made, beta=beta)[0].score("detection").parts for beta in (0.5, 4.0))
    assert narrow["precision"] > wide["precision"] + 0.2 and wide["recall"] > narrow["recall"] + 0.2


def test_a_budget_of_tokens_is_kept_whatever_the_rule_is_made_of():
    made = planted([TokenIn(FIVE), Any((TokenIn(FIVE), TokenIn(EIGHT, 1)))], documents=300, length=80)
    free = {one.latent: one for one in rules(*made)}
    for most in (1, 3):
        for one in rules(*made, tokens=most):
            assert length(one.rule)[1] <= most < length(free[one.latent].rule)[1]
            assert 0.5 < one.score("detection").value <= free[one.latent].score("detection").value
    assert {one.latent: one for one in rules(*made, tokens=1000)} == free
