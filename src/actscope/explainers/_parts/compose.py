"""Joining rules into the simplest rule that says the same."""

from actscope.core.predicate import All, Any, Earlier, LineBegins, Not, PositionIn, Predicate, TokenIn


def both(rule: Predicate | None, part: Predicate) -> Predicate:
    """Where `rule` (None: everywhere) and `part` hold."""
    if rule is None:
        return part
    parts = [*(rule.parts if isinstance(rule, All) else (rule,)), *(part.parts if isinstance(part, All) else (part,))]
    merged = _merge(parts, _narrow)
    return merged[0] if len(merged) == 1 else All(tuple(merged))


def either(rule: Predicate, part: Predicate) -> Predicate:
    """Where `rule` or `part` holds."""
    parts = [*(rule.parts if isinstance(rule, Any) else (rule,)), *(part.parts if isinstance(part, Any) else (part,))]
    merged = _merge(parts, _widen)
    return merged[0] if len(merged) == 1 else Any(tuple(merged))


def unless(part: Predicate) -> Predicate:
    """Where `part` does not hold."""
    match part:
        case Not(inner):
            return inner
        case PositionIn(first, None) if first > 0:
            return PositionIn(0, first - 1)
    return Not(part)


def length(rule: Predicate) -> tuple[int, int]:
    """(parts, tokens listed) of a rule: what it costs to say."""
    if isinstance(rule, All | Any):
        sizes = [length(part) for part in rule.parts]
        return sum(parts for parts, _ in sizes), sum(tokens for _, tokens in sizes)
    if isinstance(rule, Not):
        return length(rule.part)
    return 1, len(getattr(rule, "tokens", ()))


def _merge(parts: list[Predicate], join) -> list[Predicate]:
    done: list[Predicate] = []
    for part in parts:
        for place, other in enumerate(done):
            joined = other if other == part else join(other, part)
            if joined is not None:
                done[place] = joined
                break
        else:
            done.append(part)
    return done


def _widen(one: Predicate, two: Predicate) -> Predicate | None:
    """One rule for "one or two", where there is one."""
    match one, two:
        case TokenIn(tokens, back), TokenIn(others, again) if back == again:
            return TokenIn(_union(tokens, others), back)
        case Earlier(tokens, within), Earlier(others, also) if within == also:
            return Earlier(_union(tokens, others), within)
        case LineBegins(tokens), LineBegins(others):
            return LineBegins(_union(tokens, others))
    return None


def _narrow(one: Predicate, two: Predicate) -> Predicate | None:
    """One rule for "one and two", where there is one that still names a token."""
    match one, two:
        case TokenIn(tokens, back), TokenIn(others, again) if back == again:
            kept = tuple(token for token in tokens if token in others)
            return TokenIn(kept, back) if kept else None
        case LineBegins(tokens), LineBegins(others):
            kept = tuple(token for token in tokens if token in others)
            return LineBegins(kept) if kept else None
        case TokenIn(tokens, back), Not(TokenIn(others, again)) if back == again:
            kept = tuple(token for token in tokens if token not in others)
            return TokenIn(kept, back) if kept else None
        case Not(first), Not(second):
            joined = _widen(first, second)
            return None if joined is None else Not(joined)
    return None


def _union(tokens: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tokens + others))
