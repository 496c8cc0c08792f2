"""What a rule says for a token, apart from what it rules out."""

from actscope.core.predicate import All, Any, Not, Predicate


def asserted(rule: Predicate) -> Predicate | None:
    """The rule without its parts under a "not"; None where nothing else is left.

    A judge that only knows words takes "but not where the token is 'x'" for a mention of 'x'. This is what it may read.
    """
    if isinstance(rule, Not):
        return None
    if isinstance(rule, All | Any):
        kept = tuple(part for part in map(asserted, rule.parts) if part is not None)
        return (kept[0] if len(kept) == 1 else type(rule)(kept)) if kept else None
    return rule


def listed(rule: Predicate | None) -> tuple[str, ...]:
    """The tokens that a rule lists in all its parts, each once; none for None."""
    if isinstance(rule, All | Any):
        return tuple(dict.fromkeys(token for part in rule.parts for token in listed(part)))
    return listed(rule.part) if isinstance(rule, Not) else tuple(getattr(rule, "tokens", ()))
