"""Rules over text: each one against a slow definition written as a loop, on any text."""

import time
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from actscope.core import artifact
from actscope.core.predicate import (
    CLASSES,
    All,
    Any,
    Earlier,
    Inside,
    Like,
    LineBegins,
    Ngram,
    Not,
    Often,
    PositionIn,
    Predicate,
    Repeated,
    Starts,
    TokenClass,
    TokenIn,
    TokenLength,
    TokenSpelt,
)
from actscope.core.text import TokenText

# The run-time type checker looks at random members of containers, also of those that a strategy builds.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")
PIECES = ("a", " b", "(", ")", "\n", " The", "the", ".", '"', "12", "  ", "\n\n    ", " XY", "x.\n", "))", "((", "\nq", " end.")
TOKENS = st.sampled_from(PIECES)


@st.composite
def texts(draw) -> TokenText:
    """Documents of one or two sequences, some tokens without a row."""
    ids, where, begins = [], [], []
    for document in range(draw(st.integers(1, 3))):
        length = draw(st.integers(1, 16))
        cut = draw(st.integers(0, length))
        missing = draw(st.sets(st.integers(0, length - 1), max_size=2))
        for position in range(length):
            token = draw(TOKENS)
            if position not in missing:
                ids.append(PIECES.index(token))
                where.append((document, position + 1))
                begins.append(cut if position + 1 > cut else 0)
    if not ids:
        ids, where, begins = [0], [(0, 1)], [0]
    return TokenText(torch.tensor(ids), torch.tensor(where), PIECES, torch.tensor(begins))


def histories(text: TokenText):
    """For every row: the (position, piece) of the rows of its sequence up to it."""
    for row in range(len(text)):
        key = (int(text.where[row, 0]), int(text.begins[row]))
        yield [
            (int(text.where[i, 1]), text.vocabulary[text.ids[i]])
            for i in range(row + 1)
            if (int(text.where[i, 0]), int(text.begins[i])) == key
        ]


def slow(rule: Predicate, text: TokenText) -> list[bool]:
    return [says(rule, history, text) for history in histories(text)]


def back_piece(history, back: int) -> str | None:
    place = history[-1][0] - back
    if len(history) <= back or history[-1 - back][0] != place:
        return None
    return history[-1 - back][1]


def says(rule: Predicate, history, text: TokenText) -> bool:
    place, piece = history[-1]
    before = history[:-1]
    match rule:
        case TokenIn(tokens, back):
            return back_piece(history, back) in tokens
        case TokenClass(kind, back):
            return (found := back_piece(history, back)) is not None and bool(CLASSES[kind](found))
        case TokenLength(least, back):
            return (found := back_piece(history, back)) is not None and len(found.strip()) >= least
        case TokenSpelt(part, how, back):
            found = back_piece(history, back)
            if found is None:
                return False
            found = found.strip()
            return {"starts with": found.startswith(part), "ends in": found.endswith(part), "contains": part in found}[how]
        case Ngram(tokens):
            return all(back_piece(history, back) == token for back, token in enumerate(reversed(tokens)))
        case PositionIn(first, last):
            here = place - history[0][0]
            return here >= first and (last is None or here <= last)
        case Repeated(length):
            run = [back_piece(history, back) for back in range(length)]
            return None not in run and any(
                run == [back_piece(history[:end], back) for back in range(length)] for end in range(1, len(history))
            )
        case Earlier(tokens, within):
            return any(seen in tokens and (within is None or place - there <= within) for there, seen in before)
        case Often(tokens, least, within):
            return sum(seen in tokens for _, seen in history[-within:]) >= least
        case Inside(_, _, depth):
            return inside(rule, [seen for _, seen in history]) >= depth
        case Like(examples, least):
            return any(
                sum(0.5**back * (back_piece(history, back) == token) for back, token in enumerate(reversed(example))) >= least
                for example in examples
            )
        case Not(part):
            return not says(part, history, text)
        case All(parts):
            return all(says(part, history, text) for part in parts)
        case Any(parts):
            return any(says(part, history, text) for part in parts)
        case Starts("text"):
            return not before
        case Starts("sentence"):
            words = [i for i, (_, seen) in enumerate(before) if seen.strip()]
            if not piece.strip() or not words:
                return bool(piece.strip())
            stop = before[words[-1]][1].rstrip().rstrip("\"')]").endswith((".", "!", "?"))
            return stop and (piece[0].isspace() or words[-1] < len(before) - 1)
        case Starts("line"):
            return line_starts(history)
        case LineBegins(tokens):
            opens = [i for i in range(len(history)) if i == 0 or line_starts(history[: i + 1])]
            return history[opens[-1]][1] in tokens
    raise AssertionError(rule)


def line_starts(history) -> bool:
    piece, before = history[-1][1], [seen for _, seen in history[:-1]]
    if not piece.strip():
        return False
    words = [i for i, seen in enumerate(before) if seen.strip()]
    since = "".join(before[words[-1] + 1 :]) if words else "\n"
    tail = before[words[-1]][len(before[words[-1]].rstrip()) :] if words else ""
    return "\n" in since + tail + piece[: len(piece) - len(piece.lstrip())]


def inside(rule: Inside, pieces: list[str]) -> int:
    depth = before = 0
    for piece in pieces:
        before = depth
        if rule.opening == rule.closing:
            depth = (depth + piece.count(rule.opening)) % 2
        else:
            depth = max(0, depth + piece.count(rule.opening) - piece.count(rule.closing))
    return min(before, depth)


LEAVES = st.one_of(
    st.builds(TokenIn, st.lists(TOKENS, min_size=1, max_size=3).map(tuple), st.integers(0, 3)),
    st.builds(TokenClass, st.sampled_from(sorted(CLASSES)), st.integers(0, 2)),
    st.builds(TokenLength, st.integers(1, 4), st.integers(0, 1)),
    st.builds(TokenSpelt, st.sampled_from(["T", "e", "he", "."]), st.sampled_from(["starts with", "ends in", "contains"])),
    st.builds(Ngram, st.lists(TOKENS, min_size=1, max_size=3).map(tuple)),
    st.builds(PositionIn, st.integers(0, 5), st.one_of(st.none(), st.integers(0, 8))),
    st.builds(Repeated, st.integers(1, 3)),
    st.builds(Earlier, st.lists(TOKENS, min_size=1, max_size=2).map(tuple), st.one_of(st.none(), st.integers(1, 5))),
    st.builds(Often, st.lists(TOKENS, min_size=1, max_size=4).map(tuple), st.integers(1, 3), st.integers(1, 5)),
    st.builds(Inside, st.just("("), st.just(")"), st.integers(1, 3)),
    st.just(Inside('"', '"')),
    st.builds(Starts, st.sampled_from(["line", "sentence", "text"])),
    st.builds(LineBegins, st.lists(TOKENS, min_size=1, max_size=3).map(tuple)),
    st.builds(
        Like,
        st.lists(st.lists(TOKENS, min_size=1, max_size=4).map(tuple), min_size=1, max_size=3).map(tuple),
        st.sampled_from([0.25, 0.5, 1.0, 1.25, 1.5]),
    ),
)
RULES = st.recursive(
    LEAVES,
    lambda part: st.one_of(
        st.builds(Not, part),
        st.builds(All, st.lists(part, min_size=1, max_size=3).map(tuple)),
        st.builds(Any, st.lists(part, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=4,
)


@settings(max_examples=250, deadline=None)
@given(texts(), LEAVES)
def test_every_rule_is_its_slow_definition(text: TokenText, rule: Predicate):
    assert rule.holds(text).tolist() == slow(rule, text)


@settings(max_examples=60, deadline=None)
@given(texts(), RULES)
def test_combinations_too(text: TokenText, rule: Predicate):
    assert rule.holds(text).tolist() == slow(rule, text)


@settings(max_examples=40, deadline=None)
@given(rule=RULES)
def test_every_rule_reads_as_words_and_survives_saving(rule: Predicate):
    assert rule.sentence().strip() and rule.clause().strip() and "\n" not in rule.sentence() + rule.clause()
    packed = artifact.pack(rule, tensors := {})
    assert artifact.unpack(packed, tensors) == rule


def test_saved_on_disk_and_opened_again(tmp_path):
    rule = All((TokenIn((" Monday", " Friday")), Not(Inside("(", ")")), Any((Repeated(2), Earlier((" day",), 8)))))
    artifact.save(rule, tmp_path / "rule")
    assert artifact.open(tmp_path / "rule") == rule


def test_sentences_are_plain():
    days = tuple(f" day{i}" for i in range(20))
    assert TokenIn((" Monday",)).sentence() == "the token ' Monday'"
    assert TokenIn(days).sentence().endswith("' day7' and 12 more")
    assert TokenIn(("\n", "a"), 1).sentence() == "what follows '\\n' or 'a'"
    rule = All((TokenIn((" the",), 1), TokenIn((" cat",)), Not(Repeated())))
    assert rule.sentence() == (
        "the token ' cat' where the previous token is ' the', but not where the token occurred earlier in the text"
    )
    assert All((Inside("(", ")"), Not(TokenIn(("x",))))).sentence() == (
        "tokens between ( and ), but not where the token is 'x'"
    )
    either = Any((TokenIn(("x",)), TokenIn(("y",), 1)))
    assert either.sentence() == "the token 'x', or on what follows the token 'y'"
    assert All((either, Not(Repeated()))).sentence() == (
        "the token 'x', or on what follows the token 'y'; all of these, but not where the token occurred earlier in the text"
    )
    assert All((either, Inside("(", ")"))).sentence() == (
        "tokens between ( and ) where either the token is 'x' or the previous token is 'y'"
    )
    assert Often(("x", "y"), 2, 4).sentence() == (
        "tokens where 2 or more of the last 4 tokens, this one included, are 'x' or 'y'"
    )
    assert Like(((" the", " cat"), ("x",)), 1.0).sentence() == "what resembles ' the cat' or 'x'"
    assert Repeated(2).sentence() == "a token that followed the same token earlier in the text"


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "rule",
    [
        TokenIn((" b", "a"), 2), TokenClass("a number"), TokenSpelt("e", "ends in"), Repeated(1), Repeated(2), Repeated(3),
        Earlier((" The",), 8), Inside("(", ")"), Inside('"', '"'), Starts("line"), Starts("sentence"), LineBegins(("a",)),
        Ngram(("a", " b", ".")), Often(("a", " b"), 2, 8),
    ],
)  # fmt: skip
def test_two_hundred_thousand_rows_take_a_moment(rule: Predicate, one_thread: None):
    n, generator = 200_000, torch.Generator().manual_seed(0)
    vocabulary = (*PIECES, *(f" w{i}" for i in range(4000)))
    where = torch.stack([torch.arange(n) // 200, torch.arange(n) % 200 + 1], 1)
    ids = torch.randint(len(vocabulary), (n,), generator=generator)
    rule.holds(TokenText(ids[:10], where[:10], vocabulary))
    text = TokenText(ids, where, vocabulary)
    text.start, text.line_start, text.sentence_start  # noqa: B018  kept for all rules
    times = []
    for _ in range(3):
        text._cache.clear()
        begun = time.thread_time()
        rule.holds(text)
        times.append(time.thread_time() - begun)
    assert min(times) < 0.2, times  # seconds of one core; about 0.02 when nothing else runs
