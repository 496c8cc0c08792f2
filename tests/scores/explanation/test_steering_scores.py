"""Scores that run the model: what steering brings about, what written text sets off, and what a reader makes of it all."""

import pytest
import torch
from planted_causes import dictionary_of, planted_subject, store_of

from actscope.core.errors import BadInput, WrongSubject
from actscope.core.explanation import Explanation
from actscope.core.predicate import TokenIn
from actscope.core.text import TokenText
from actscope.explainers.judges.embedding import Embedding
from actscope.explainers.promoted import promoted
from actscope.organisms.grammar import grammar
from actscope.reproductions._parts.cache_reader import CacheReader
from actscope.reproductions._parts.planted_features import READS, known, said
from actscope.scores._parts.reading import Reading
from actscope.scores._parts.steering import FEWEST, Places, steering_of
from actscope.scores.explanation.clarity import clarity
from actscope.scores.explanation.detection import detection
from actscope.scores.explanation.embedding import embedding
from actscope.scores.explanation.faithfulness import faithfulness
from actscope.scores.explanation.intervention import intervention
from actscope.scores.explanation.surprisal import surprisal
from actscope.stores.capture import capture
from actscope.subjects.load import load

FEW = {"places": 40, "controls": 2, "others": 1, "draws": 200}


class World:
    """Pocket, some of its text, and two planted features of each kind."""

    def __init__(self):
        self.subject = load("pocket")
        self.store = capture(self.subject, grammar(5, 100_000, split="test"), [port.site for port in READS], tokens=9_000)
        self.text = TokenText.of(self.store, self.subject)
        self.counts = torch.bincount(self.text.ids, minlength=2048)
        self.known = known(self.subject, self.counts, 2, seed=1)
        self.reading = Reading.of(self.known.dictionary, self.store, self.text)
        self.args = (self.known.dictionary, self.subject, self.store)
        self.words = self.subject.pieces(range(2048))

    def says(self, kind: str, tokens: str) -> list[Explanation]:
        what = "fires on" if tokens == "fires" else "promotes"
        return [said(one, getattr(self.known, tokens)[one], self.words, what) for one in self.known.latents(kind)]


@pytest.fixture(scope="module")
def world():
    return World()


def test_intervention_singles_out_features_that_only_act_on_the_output(world):
    out, silent = world.says("output", "promotes"), world.says("input", "fires")
    for one in intervention(out, *world.args, **FEW).values():
        assert one.parts["over_random_low"] > 0 and one.parts["over_other_low"] > 0 and one.value > 0.52
        assert one.parts["steered"] > one.parts["unsteered"] and 0.1 < one.parts["kl"] < 3
        assert abs(one.parts["permuted"] - 0.5) < 0.05 and abs(one.control - 0.5) < 0.03
    for one in intervention(silent, *world.args, **FEW).values():
        assert one.parts["over_random_low"] <= 0 and abs(one.value - 0.5) < 0.02 and one.parts["kl"] < 0.01
    missed = detection(out, *world.args, reading=world.reading, contexts=20)
    assert len(missed) == 2 and all(abs(one.value - 0.5) < 0.05 for one in missed.values())
    seen = detection(silent, *world.args, reading=world.reading, contexts=20)
    assert len(seen) == 2 and all(one.value > 0.95 for one in seen.values())


def test_faithfulness_is_the_share_of_what_was_missing_and_0_for_what_does_not_act(world):
    few = {"places": 30, "controls": 2, "others": 1, "draws": 200, "reading": world.reading}
    found = faithfulness(world.says("output", "promotes"), *world.args, **few)
    for latent, one in found.items():
        assert 0.9 < one.value <= 1 and one.parts["over_control_low"] > 0.5 and one.parts["best"] == 50
        half = said(latent, torch.cat([world.known.promotes[latent][:2], torch.tensor([7, 8])]), world.words, "promotes")
        assert 0.25 < faithfulness([half], *world.args, **few)[latent].value < 0.75, "half of what comes is named"
    for one in faithfulness(world.says("input", "fires"), *world.args, **few).values():
        assert one.value < 0.02
    with pytest.raises(BadInput, match="none of them 0"):
        faithfulness([], *world.args, factors=(0, 1))


def test_the_subjects_own_embeddings_tell_where_a_latent_fires(world):
    settings = {"reading": world.reading, "contexts": 20, "permutations": 5, "draws": 100}
    right = world.says("both", "fires")
    words = [tokens.tolist() for tokens in (world.known.fires[one] for one in world.known.latents("both"))]
    wrong = [said(one.latent, torch.tensor(words[1 - at]), world.words, "fires on") for at, one in enumerate(right)]
    whole, crossed = (embedding(these, *world.args, **settings) for these in (right, wrong))
    judge = Embedding(world.subject, text=world.reading.text)
    for latent, one in whole.items():
        assert one.value > 0.95 and one.parts["over_other_low"] > 0 and abs(one.control - 0.5) < 0.1
        assert abs(crossed[latent].value - 0.5) < 0.15
    text, rows = world.reading.text, torch.arange(400)
    alone = Embedding(world.subject, text=text, window=1)(right[0], text, rows)
    same = text.ids[rows] == text.ids[rows].mode().values
    assert int(same.sum()) > 1 and len(alone[same].unique()) == 1, "a token alone is as near wherever it stands"
    together = judge(right[0], text, rows)
    assert (together >= alone).all() and (together > alone).any(), "what stands before may be nearer"
    begins = text.start[rows] == rows
    assert torch.equal(together[begins], alone[begins]), "nothing of another sequence is read"


def test_the_strength_is_where_the_next_token_moves_by_so_much(world):
    places = Places.of(world.subject, world.known.dictionary.write.site, world.store, None, 12, least=4, seed=0)
    unit = torch.nn.functional.normalize(torch.randn(128), dim=0)
    length, reached = places.strength(unit, 0.5)
    moved = places.each(
        torch.stack([torch.zeros(128), length * unit]),
        lambda _, chance: (chance[:, 0].exp() * (chance[:, 0] - chance[:, 1])).sum(-1),
    )
    assert float(moved.mean()) == pytest.approx(reached, rel=1e-4) and reached == pytest.approx(0.5, rel=0.35)
    weak, low = places.strength(torch.full((128,), 128**-0.5), 0.5)
    assert low < 0.01 and weak == pytest.approx(8 * places.norm)


def test_tokens_are_drawn_at_the_same_chances_whatever_is_added(world):
    places = Places.of(world.subject, world.known.dictionary.write.site, world.store, None, 10, least=4, seed=0)
    nothing = places.drawn(torch.zeros(3, 128), 200)
    assert torch.equal(nothing[:, 0], nothing[:, 1]) and torch.equal(nothing[:, 0], nothing[:, 2])
    number, index = places.spots[0].tolist()
    logits = world.subject.run(places.sequences[number][: index + 1].long()[None]).logits[0, -1]
    top = logits.softmax(-1).max(0)
    share = float((nothing[0, 0] == top.indices).float().mean())
    assert share == pytest.approx(float(top.values), abs=0.15)


def test_what_is_promoted_is_found_on_documents_of_its_own(world):
    latents = world.known.latents("output", "both")
    found = {one.latent: one for one in promoted(*world.args, latents=latents, places=24)}
    planted = {latent: {world.words[token] for token in world.known.promotes[latent].tolist()} for latent in found}
    hits = [len(planted[latent] & set(one.rule.tokens)) for latent, one in found.items()]
    assert len(hits) >= 3 and sum(hits) / len(hits) >= 1.5  # of 4 planted tokens each
    assert all(8 <= one.evidence["places"] <= 24 for one in found.values())
    with pytest.raises(BadInput, match="asked for"):
        promoted(*world.args, latents=[99])


def steering_at(world, documents=None, where="firing", count=12, factor=2.0, kl=None, **more):
    return steering_of(*world.args, documents, where, count, factor=factor, kl=kl, seed=3, **more)


def test_places_are_where_the_latent_first_fires_or_any(world):
    dictionary, subject, store = world.args
    documents = sorted(store.documents)[::2]
    at = steering_at(world, documents)(0).at
    assert len(at) == len(at.document.unique()) == 12 and (at.spots[:, 1] >= 4).all()
    for number, index in at.spots.tolist():
        fires = torch.isin(at.sequences[number], world.known.fires[0])
        assert fires[index] and not fires[:index].any()
    anywhere = steering_at(world, documents, "anywhere", 24)
    same = Places.of(subject, dictionary.write.site, store, documents, 24, least=4, seed=3)
    assert torch.equal(anywhere(0).at.spots, same.spots) and anywhere(0).at is anywhere(1).at
    with pytest.raises(BadInput, match="where='there'"):
        steering_at(world, documents, "there")


def test_strength_is_a_share_of_what_the_latent_is_or_the_nats_asked_for(world):
    latent = world.known.latents("both")[0]
    peak = float(world.reading.active(latent)[1].max()) * float(world.known.dictionary.directions[latent].norm())
    weak, strong = (steering_at(world, factor=factor, reading=world.reading)(latent) for factor in (1.0, 3.0))
    assert weak.length == pytest.approx(peak) and strong.length == pytest.approx(3 * peak) and strong.kl > weak.kl
    assert float(weak.unit.norm()) == pytest.approx(1)
    alike = steering_at(world, count=24, kl=0.5)(latent)
    assert alike.kl == pytest.approx(0.5, rel=0.35) and alike.length == pytest.approx(alike.at.strength(alike.unit, 0.5)[0])
    for wrong in ({"factor": 0.0}, {"factor": float("nan")}, {"kl": 0.0}, {"kl": -1.0}):
        with pytest.raises(BadInput, match="given; expected times the largest activation"):
            steering_at(world, **wrong)


def test_steering_the_other_way_brings_about_nothing_of_what_a_latent_promotes(world):
    up, down = (
        intervention(world.says("both", "promotes"), *world.args, factor=factor, reading=world.reading, **FEW)
        for factor in (2.0, -2.0)
    )
    for latent, one in down.items():
        assert one.parts["steered"] <= one.parts["unsteered"] < up[latent].parts["steered"]
        assert one.value <= 0.5 < up[latent].value


def test_a_latent_that_fires_too_seldom_is_steered_anywhere_or_not_at_all(world):
    latent = world.known.latents("output")[0]
    seldom = Reading(world.text, world.reading.start.clone(), world.reading.rows, world.reading.values)
    seldom.start[latent + 1 :] = seldom.start[latent] + FEWEST - 1
    these = [one for one in world.says("output", "promotes") if one.latent == latent]
    assert not intervention(these, *world.args, reading=seldom, **FEW)
    found = intervention(these, *world.args, reading=seldom, where="anywhere", **FEW)[latent]
    assert found.value > 0.52 and found.parts["places"] == FEW["places"]
    silent = Reading(world.text, seldom.start.clone(), world.reading.rows, world.reading.values)
    silent.start[latent + 1 :] = silent.start[latent]
    assert not intervention(these, *world.args, reading=silent, where="anywhere", **FEW), "it has no largest activation"
    assert intervention(these, *world.args, reading=silent, where="anywhere", kl=0.5, **FEW)[latent].value > 0.52


def test_clarity_tells_text_that_sets_the_latent_off(world):
    right = clarity(world.says("both", "fires"), *world.args, reading=world.reading, samples=40, draws=200)
    for one in right.values():
        assert one.value > 0.5 and one.parts["over_other_low"] > 0 and one.parts["written"] > 15 and abs(one.control) < 0.2
    lazy = clarity(world.says("both", "fires")[:1], *world.args, reading=world.reading, writer=lambda e, n, seed: ["a b"] * n)
    assert abs(next(iter(lazy.values())).value) < 0.3
    assert not clarity(world.says("both", "fires"), *world.args, reading=world.reading, writer=lambda e, n, seed: [])


def test_surprisal_needs_a_reader_that_uses_the_description(world):
    settings = {"reading": world.reading, "contexts": 20, "most": 30, "window": 8, "draws": 100, "permutations": 5}
    reader = CacheReader(world.subject, world.counts)
    for one in surprisal(world.says("both", "fires"), *world.args, reader=reader, **settings).values():
        assert one.value > 0.75 and abs(one.control - 0.5) < 0.15 and one.parts["over_other_low"] > 0
    deaf = CacheReader(world.subject, world.counts, share=0.0)
    for one in surprisal(world.says("both", "fires"), *world.args, reader=deaf, **settings).values():
        assert abs(one.value - 0.5) < 0.12  # no explanation changes what it reads
    with pytest.raises(BadInput, match="{}"):
        surprisal(world.says("both", "fires"), *world.args, prompt="no place")
    with pytest.raises(BadInput, match="takes"):
        surprisal(
            [Explanation(latent, "word " * 130, "by hand") for latent in world.known.latents("both")], *world.args, **settings
        )


def test_a_site_that_moves_no_logit_and_another_subject_are_refused():
    subject, direction = planted_subject()
    dictionary, store = dictionary_of(direction), store_of(subject, n=20)
    explained = [Explanation(0, "something", "by hand", TokenIn(("9",)))]
    dictionary.subject = "0" * 64
    with pytest.raises(WrongSubject, match="trained on"):
        intervention(explained, dictionary, subject, store)
    dictionary.subject = ""
    with torch.no_grad():
        subject.model.get_output_embeddings().weight.zero_()
    with pytest.raises(BadInput, match="changes no logit"):
        intervention(explained, dictionary, subject, store, places=8)
