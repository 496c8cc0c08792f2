"""Whether a rule names its latent's cause, judged on latents whose cause was planted."""

import pytest

from actscope.core.errors import BadInput
from actscope.core.explanation import Explanation
from actscope.core.labels import Labels
from actscope.core.predicate import All, Any, Predicate, Repeated, TokenIn
from actscope.core.score import Score
from actscope.core.text import TokenText
from actscope.organisms.planted_words import planted_words as planted
from actscope.scores.explanation.named_cause import named_cause

CAUSES = {
    "the": TokenIn((" the",)), "cat": TokenIn((" cat",)), "animal": TokenIn((" cat", " dog")), "after a": TokenIn((" a",), 1),
    "again": Repeated(),
}  # fmt: skip
CHOOSE, REPORT = range(100), range(100, 150)


def score(latents: list[Predicate | float], rules: list[Predicate], strongest: dict[int, Predicate] | None = None, **given):
    dictionary, subject, store = planted(latents)
    text = TokenText.of(store, subject)
    keys = text.where[:, 0] * 2**32 + text.where[:, 1]
    causes = {**CAUSES, **given.pop("causes", {})}
    labels = Labels({name: keys[rule.holds(text)].sort().values for name, rule in causes.items()})
    found = [
        Explanation(
            latent, "", "by hand", rule, {"strongest": {"rule": strongest[latent]}} if latent in (strongest or {}) else {}
        )
        for latent, rule in enumerate(rules)
    ]
    settings = {"choose": CHOOSE, "report": REPORT, "least": 20, **given}
    return named_cause(found, dictionary, subject, store, labels, **settings)


def test_true_rules_name_every_cause_and_rules_of_other_latents_none():
    rules = list(CAUSES.values())
    true, false = score(rules, rules), score(rules, [rules[1], rules[0], rules[3], rules[2], rules[0]])
    assert true.value == 1.0 and true.n == len(rules) and true.parts["strict"] == true.parts["rule_f1"] == 1.0
    assert false.value == 0.0
    assert true.control is not None and true.control < 0.2
    assert true.parts["cause:animal"] == 1.0 and true.parts["causes"] == len(rules)


def test_a_rule_nearer_to_another_label_does_not_name_the_cause():
    wider = Any((TokenIn((" cat",)), TokenIn((" dog", " runs"))))
    assert score([TokenIn((" cat",))], [wider]).value == 0.0
    narrower = All((TokenIn((" cat",)), Repeated()))
    assert score([TokenIn((" cat",))], [narrower]).value == 1.0


def test_latents_whose_cause_is_unclear_take_no_part():
    result = score([TokenIn((" cat",)), 0.1], [TokenIn((" cat",)), TokenIn((" the",))])
    assert result.n == 1 and result.parts["explained"] == 2.0
    with pytest.raises(BadInput, match="None of 1 latents"):
        score([0.1], [TokenIn((" the",))])


def test_the_rule_of_the_strongest_activations_counts_where_there_is_one():
    everything = Any((TokenIn((" cat",)), Repeated()))
    result = score([TokenIn((" cat",))], [everything], {0: TokenIn((" cat",))})
    assert result.value == 1.0 and result.parts["own_rule"] == 0.0


def test_labels_that_always_hold_together_are_one_cause():
    twin = {"also cat": TokenIn((" cat",))}
    result = score([TokenIn((" cat",))], [TokenIn((" cat",))], causes=twin)
    assert result.value == 1.0
    more = {"almost cat": Any((TokenIn((" cat",)), All((TokenIn((" Anna",)), TokenIn((" a",), 1)))))}
    latent = [TokenIn((" cat",))]
    wide = [more["almost cat"]]
    assert score(latent, wide, causes=more, same=0.9).value == 1.0
    strict = score(latent, wide, causes=more, same=0.999)
    assert strict.value == 0.0


def test_the_interval_is_over_causes_and_the_documents_are_disjoint():
    latents = [TokenIn((" the",)), TokenIn((" the",)), TokenIn((" cat",)), Repeated()]
    result: Score = score(latents, [TokenIn((" the",)), TokenIn((" the",)), TokenIn((" a",)), Repeated()])
    assert result.value == 0.75 and result.parts["causes"] == 3.0
    assert result.interval is not None and result.interval[0] <= 0.34 and result.interval[1] == 1.0
    with pytest.raises(BadInput, match="in common"):
        score(latents, latents, choose=range(0, 110))
