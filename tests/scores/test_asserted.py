"""What a rule says for a token stays, what it rules out does not."""

from actscope.core.predicate import All, Any, Not, Repeated, TokenIn
from actscope.scores._parts.asserted import asserted, listed

CAT, DOG, OLD = TokenIn(("cat",)), TokenIn(("dog",)), TokenIn((" old",), 1)


def test_a_rule_without_a_not_is_as_it_was():
    for rule in (CAT, Repeated(2), All((CAT, OLD)), Any((CAT, All((DOG, OLD))))):
        assert asserted(rule) == rule


def test_what_is_ruled_out_is_left_out_at_any_depth():
    assert asserted(All((CAT, Not(OLD)))) == CAT
    assert asserted(All((CAT, OLD, Not(Repeated())))) == All((CAT, OLD))
    assert asserted(Any((All((CAT, Not(OLD))), DOG))) == Any((CAT, DOG))
    assert asserted(Any((Not(CAT), All((DOG, Not(OLD)))))) == DOG


def test_a_rule_that_only_rules_out_says_nothing_for_a_token():
    assert asserted(Not(CAT)) is None and asserted(All((Not(CAT), Not(DOG)))) is None


def test_the_tokens_of_all_parts_are_listed_once():
    assert listed(Any((All((CAT, OLD)), DOG, All((DOG, Not(CAT)))))) == ("cat", " old", "dog")
    assert listed(None) == listed(Repeated()) == ()
