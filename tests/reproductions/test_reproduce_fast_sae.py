"""The reproduction of Li et al. 2025 (FAST) on a small scale: its figures mean what they say."""

import pytest
import torch

from actscope.core.inputs import Inputs
from actscope.core.site import Port
from actscope.corpora.texts import texts
from actscope.organisms import chat as chat_file
from actscope.organisms.chat import chat, token_ids
from actscope.organisms.dialogues import dialogues
from actscope.reproductions.fast_sae import METHODS, SITE, fast_sae, in_blocks
from actscope.stores.capture import capture

SMALL = {"tokens": 5000, "rows": 12_000, "latents": 96, "judged": 4000, "rates": (0.03,), "blocks": 16, "turns": 96}


@pytest.fixture(scope="module", autouse=True)
def little_text():
    """The standard library takes seconds to read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_file, "standard_library", lambda split: texts(["def add(a, b):\n    return a + b\n"] * 3000))
        yield


@pytest.fixture(scope="module")
def subject():
    return chat(seed=0, blocks=16, rows=32)


def test_blocks_hold_the_tokens_of_the_dialogues_joined_and_see_across_them(subject):
    read = dialogues(0, 60)
    alone = capture(subject, read, [SITE], special=True)
    ids = token_ids(subject.tokenizer, read, 1 << 30)
    assert torch.equal(ids, alone.text[0])  # the same tokens in the same order, special ones included
    store = in_blocks(subject, ids, len(ids))
    assert len(store) == len(ids) // subject.context * subject.context
    joined, apart = (one.rows(torch.arange(len(store)), [Port(SITE)]).acts[Port(SITE)] for one in (store, alone))
    first = int((ids == 0).nonzero()[1])  # where the second dialogue begins
    torch.testing.assert_close(joined[:first], apart[:first], rtol=1e-4, atol=1e-3)
    difference = (joined - apart).norm(dim=1) / apart.norm(dim=1)
    assert difference[first:].mean() > 0.05
    again = subject.run(Inputs(ids=ids[None, : subject.context]), read=[SITE]).acts[SITE][0]
    torch.testing.assert_close(joined[: subject.context], again, rtol=1e-4, atol=1e-3)


@pytest.mark.full
def test_a_small_run_measures_every_regime_on_the_same_dialogues():
    result = fast_sae(seeds=(0,), **SMALL)
    mean = {name: values[0] for name, values in result.figures.items()}
    assert all(len(values) == 1 for values in result.figures.values())
    for method in METHODS:
        for regime in ("FAST", "BT(F)", "BT(P)", "FAST again"):
            parts = [mean[f"{method} {regime} {tokens}"] for tokens in ("special", "text")]
            assert min(parts) < mean[f"{method} {regime} all"] < max(parts) and mean[f"{method} {regime} L0"] > 0
        assert mean[f"{method} BT(P) special"] > 1.2 * mean[f"{method} FAST special"]  # it has seen no role token
    assert result.ours == mean["jumprelu FAST all"] and result.control == mean["jumprelu FAST again all"]
    assert result.baseline == min(mean["jumprelu BT(F) all"], mean["jumprelu BT(P) all"])
    above = mean["jumprelu BT(P) above FAST, special"]
    assert above == mean["jumprelu BT(P) special"] - mean["jumprelu FAST special"]
    assert result.full is None and result.seconds > 0
