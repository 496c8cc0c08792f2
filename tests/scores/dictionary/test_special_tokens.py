"""The error of special tokens apart from that of text."""

import pytest
import torch
from fakes import PORT, SITE, Rows, constant, perfect

from actscope.core.batch import Batch
from actscope.core.errors import BadInput
from actscope.core.inputs import SPECIAL, TEXT
from actscope.corpora.texts import texts
from actscope.dictionaries.identity import Identity
from actscope.scores._all import score as every_score
from actscope.scores.dictionary.fvu import fvu
from actscope.scores.dictionary.special_tokens import special_tokens
from actscope.stores.capture import capture
from actscope.subjects.load import load


class WithRoles(Rows):
    """Every fifth row is a special token."""

    def rows(self, index, ports):
        batch = super().rows(index, ports)
        return Batch(batch.acts, batch.where, None, torch.where(index % 5 == 0, SPECIAL, TEXT))


def rows(n: int = 100, far: float = 3.0) -> torch.Tensor:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    x[::5] += far
    return x


def test_it_is_the_error_of_those_rows_in_the_unit_of_all():
    x = rows()
    score = special_tokens(constant(torch.zeros(4)), WithRoles({SITE: x}))
    spread = float((x - x.mean(0)).square().sum(1).mean())
    special, text = x[::5].square(), x[[row for row in range(100) if row % 5]].square()
    assert score.value == pytest.approx(float(special.sum(1).mean()) / spread, rel=1e-5)
    assert score.parts["text"] == pytest.approx(float(text.sum(1).mean()) / spread, rel=1e-5)
    assert score.parts["mse:special"] == pytest.approx(float(special.mean()), rel=1e-5)
    assert score.n == score.parts["rows:special"] == 20 and score.parts["rows:text"] == 80
    assert score.interval[0] < score.value < score.interval[1]
    whole = fvu(constant(torch.zeros(4)), Rows({SITE: x})).value
    assert (20 * score.value + 80 * score.parts["text"]) / 100 == pytest.approx(whole, rel=1e-5)


def test_the_control_is_the_mean_and_a_perfect_dictionary_has_no_error():
    x = rows()
    score = special_tokens(constant(x.mean(0)), WithRoles({SITE: x}))
    assert score.value == pytest.approx(score.control, rel=1e-5) and score.control > 1 > score.parts["text"]
    assert special_tokens(perfect(4), WithRoles({SITE: x})).value == 0


def test_only_the_documents_asked_for_are_scored():
    x = rows()
    x[50:] *= 10
    score = special_tokens(constant(torch.zeros(4)), WithRoles({SITE: x}), documents=range(5))
    assert score.n == 10 and score.parts["mse:special"] == pytest.approx(float(x[:50:5].square().mean()), rel=1e-5)


def test_a_store_without_special_tokens_is_refused():
    with pytest.raises(BadInput, match="capture again with special=True"):
        special_tokens(perfect(4), Rows({SITE: rows()}))
    only = WithRoles({SITE: rows(1)})
    with pytest.raises(BadInput, match="1 of 1 rows are special"):
        special_tokens(perfect(4), only)
    assert PORT in only.ports


@pytest.mark.parametrize("special", [True, False])
def test_the_verb_score_has_it_where_the_store_knows_special_tokens(special):
    mini = load("pocket-mini")
    store = capture(mini, texts(["Mary counts: Monday, Tuesday."] * 20), ["layers.1.resid_post"], context=8, special=special)
    names = [one.name for one in every_score(Identity(reads=store.ports), mini, store)]
    assert ("special_tokens" in names) == special and {"fvu", "cross_entropy"} <= set(names)
