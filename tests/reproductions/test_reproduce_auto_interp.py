"""The reproduction of Paulo et al. 2024 on a small scale: what is planted is known, and its figures mean what they say."""

import pytest
import torch

from actscope.core.predicate import Repeated, TokenIn
from actscope.core.site import Port
from actscope.reproductions._parts.families import TopOf, drawn_alike, paired
from actscope.reproductions._parts.planted_features import common_tokens, degraded, directions, per_latent, spearman
from actscope.reproductions._parts.planted_rules import columns_of
from actscope.reproductions.auto_interp import _holds, auto_interp
from actscope.subjects.load import load


def test_rank_correlation_is_of_ranks_with_ties_between():
    up = [1.0, 2.0, 3.0, 4.0]
    assert spearman(up, [10.0, 20.0, 30.0, 1000.0]) == pytest.approx(1)
    assert spearman(up, up[::-1]) == pytest.approx(-1)
    assert spearman(up, [5.0] * 4) == 0
    ranks = torch.tensor([[1.0, 2.0, 3.0, 4.0], [1.0, 2.5, 2.5, 4.0]], dtype=torch.float64)
    assert spearman(up, [0.0, 7.0, 7.0, 9.0]) == pytest.approx(float(torch.corrcoef(ranks)[0, 1]))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_a_share_of_the_tokens_is_exchanged_for_others_as_common(share: float):
    counts = torch.arange(2048, 0, -1)
    tokens = common_tokens(counts)[torch.randperm(500, generator=torch.Generator().manual_seed(1))[:8]]
    other = degraded(tokens, share, counts, seed=3)
    changed = tokens != other
    assert int(changed.sum()) == round(8 * share) and len(other.unique()) == 8
    assert not torch.isin(other[changed], tokens).any()
    assert (tokens - other).abs().max() <= 20  # the rank, since counts fall with the id
    more = degraded(tokens, 1.0, counts, seed=3)
    assert torch.equal(more[changed], other[changed]) or share == 0  # what is exchanged stays exchanged


def test_the_k_largest_projections_stay_and_both_signs_are_neurons():
    port = Port.parse("layers.0.mlp_post")
    neurons = TopOf(port, torch.cat([torch.eye(4), -torch.eye(4)]), torch.zeros(4), 2)
    codes = neurons.encode(torch.tensor([[3.0, -2.0, 1.0, 0.0]])).dense()[0]
    assert codes.tolist() == [3, 0, 0, 0, 0, 2, 0, 0]
    assert neurons.decode(neurons.encode(torch.eye(4)))[port].shape == (1 * 4, 4)


def test_a_planted_rule_is_active_where_it_holds_but_for_a_share():
    from actscope.core.text import TokenText

    ids = torch.randint(5, (4000,), generator=torch.Generator().manual_seed(0))
    where = torch.stack([torch.arange(4000) // 40, torch.arange(4000) % 40], 1)
    text = TokenText(ids, where, tuple("abcde"))
    rules = [TokenIn(("a",)), Repeated(2)]
    fires = columns_of(rules, text, silent=0.1, seed=0) > 0
    for rule, column in zip(rules, fires.T, strict=True):
        holds = rule.holds(text)
        assert not (column & ~holds).any() and float(column[holds].float().mean()) == pytest.approx(0.9, abs=0.03)


def test_rivals_are_drawn_to_fire_as_often():
    draw = torch.Generator().manual_seed(0)
    counts = {
        "latents": torch.randint(50, 500, (60,), generator=draw),
        "neurons": torch.randint(50, 2000, (3000,), generator=draw),
    }
    counts["latents"][::2] = 0  # cannot be judged
    drawn = drawn_alike(counts, 20, seed=1)
    assert {len(one) for one in drawn.values()} == {20} and len(set(drawn["neurons"])) == 20
    assert all(latent % 2 for latent in drawn["latents"]) and drawn == drawn_alike(counts, 20, seed=1)
    ours, theirs = (counts[name][drawn[name]].double().log() for name in counts)
    assert float((ours - theirs).abs().mean()) < 0.2 and float(counts["neurons"].double().log().mean() - ours.mean()) > 1
    assert len(drawn_alike(counts | {"few": torch.tensor([0, 7, 9])}, 20, seed=1)["latents"]) == 2


@torch.no_grad()
def test_what_is_planted_to_be_promoted_is_promoted_alike():
    tokens = [torch.tensor([300, 400, 500, 600]), torch.tensor([], dtype=torch.long), torch.tensor([700, 50, 900, 1000])]
    pocket = load("pocket")
    atoms, weights = directions(pocket, tokens), pocket.weights()
    logits = torch.nn.functional.layer_norm(1e4 * atoms, (128,)) * weights["gpt_neox.final_layer_norm.weight"]
    logits = logits @ weights["lm_head.weight"].T
    for some, row in zip(tokens, logits, strict=True):
        if not len(some):
            assert float(row.abs().max()) < 1e-3  # moves nothing
            continue
        raised = row - row.mean()
        assert set(some.tolist()) <= set(raised.topk(8).indices.tolist())  # a twin of one of them may rise with it
        assert float(raised[some].std() / raised[some].mean()) < 1e-3


def test_intervals_of_differences_and_turned_tables():
    mean, (low, high) = paired([1.0, 1.1, 0.9, 1.0])
    assert mean == pytest.approx(1.0) and high - low == pytest.approx(2 * 1.96 * (0.02 / 3 / 4) ** 0.5)
    assert paired([1.0])[1][0] == float("-inf")  # one pair has no error
    assert per_latent({"a": {1: 0.1, 2: 0.2}, "b": {2: 0.4}}) == {2: {"a": 0.2, "b": 0.4}}


@pytest.mark.full
def test_truth_is_told_and_what_is_known_is_ordered():
    result = auto_interp(seeds=(0,), tokens=30_000, fitted=30_000, latents=512, rows=60_000, judged=4, places=24, each=3)
    one = {name: values[0] for name, values in result.figures.items()}
    assert result.ours == one["detection: latents"] and result.baseline == one["detection: neurons"]
    assert all(one[f"planted rules, split {split}, mean"] > 0.95 for split in (1, 2, 3))
    assert all(abs(one[f"planted rules, split {split}, permuted"] - 0.5) < 0.03 for split in (1, 2, 3))
    for name in ("detection", "fuzzing", "simulation", "log_loss", "embedding", "surprisal", "intervention", "faithfulness"):
        assert one[f"quality order: {name}"] >= 0.9
    assert one["output-only features told from random directions"] == 1
    assert one["detection of output-only features, mean"] < 0.55
    assert result.holds == _holds([one], result.figures)
    pairs = result.figures["detection: latents over neurons, low and high over all pairs"]
    assert pairs[0] < one["detection: latents over neurons, mean"] < pairs[1]
