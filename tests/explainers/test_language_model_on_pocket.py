"""The whole path on pocket: rules' own sentences come back as the answers of a model, a judge that sees no more than it is
shown applies them, and detection tells them from those of other latents. No language model takes part: this shows that the
path carries what a good one would say, not that any model is good."""

import json
import sys
from itertools import islice

import pytest
import torch

from actscope.core.ledger import Ledger
from actscope.core.text import TokenText
from actscope.corpora.texts import texts
from actscope.dictionaries.topk import TopK
from actscope.explainers._parts.questions import Questions
from actscope.explainers.judges.language_model import LanguageModel
from actscope.explainers.language_model import language_model
from actscope.explainers.rules import rules
from actscope.explainers.sources.endpoint import Endpoint
from actscope.organisms.grammar import grammar
from actscope.stores.capture import capture
from actscope.subjects.load import load
from actscope.training.fit import fit
from actscope.training.plan import Plan
from fake_server import FakeServer, Messages, data, label

SITE = "layers.1.resid_post"
SHOWN = {"top": 10, "quantiles": 10, "silent": 8, "similar": 6, "back": 24, "ahead": 8, "answer": 300}


class Reader:
    """Answers for a language model: of a latent what rules said; of an item whether that rule holds at the end of its text."""

    def __init__(self, subject, sentences: dict[str, str], explained: dict):
        self.subject, self.sentences = subject, sentences
        self.rules = {one.text: one.rule for one in explained.values()}
        self.vocabulary = tuple(subject.pieces(range(2048)))

    def __call__(self, messages: Messages) -> str:
        shown = data(messages)
        if "items" not in shown:
            return label(self.sentences[messages[1]["content"]])
        rule = self.rules[shown["explanation"]]
        return json.dumps({"answers": [{"id": one["id"], "probability": self.holds(rule, one)} for one in shown["items"]]})

    def holds(self, rule, item: dict) -> float:
        ids = self.subject.prepare(item["before"] + item["token"]).ids[0]
        ids = ids[1:] if int(ids[0]) == self.subject.begins else ids
        where = torch.stack([torch.zeros(len(ids), dtype=torch.long), torch.arange(len(ids))], 1)
        return float(rule.holds(TokenText(ids, where, self.vocabulary))[-1])


@pytest.fixture(scope="module")
def setting():
    """pocket, a dictionary, a store of documents it was not fitted on, and rules for the latents that have good ones."""
    subject = load("pocket")
    documents = [document.text for document in islice(grammar(seed=1000, documents=4000, split="test").documents(), 3000)]
    read, held = capture(subject, texts(documents[:1000]), SITE), capture(subject, texts(documents[1000:]), SITE)
    dictionary = TopK(reads=dict(read.ports), n_latents=512, k=8)
    fit(dictionary, read, Plan(rows=2 * len(read), batch=1024))
    dictionary.eval()
    explained = rules(dictionary, subject, held, latents=range(0, 512, 8), contexts=60, most=300, leaves=2)
    good = {one.latent: one for one in explained if one.score("detection").value > 0.8 and len(one.text) <= 300}
    return subject, dictionary, held, dict(islice(good.items(), 12))


def told(setting, folder, given: dict[int, str]):
    """Explanations where the server answers for each latent with the sentence given."""
    subject, dictionary, held, good = setting
    asked = Questions.of(dictionary, subject, held, list(good), None, 50, 0, **SHOWN)
    sentences = {asked.about(latent).prompt.user: text for latent, text in given.items()}
    with FakeServer(answer=Reader(subject, sentences, good)) as server, Ledger(Endpoint(server.url, "m"), folder) as ledger:
        found = language_model(
            dictionary, subject, held, ledger=ledger, judge=LanguageModel(ledger, before=64), latents=list(good)
        )
        assert len(server.whole) == ledger.spent.questions
        return {one.latent: one for one in found}, ledger.counts


@pytest.mark.full
def test_what_rules_say_survives_the_whole_path_and_the_labels_of_others_do_not(setting, tmp_path):
    good = setting[3]
    assert len(good) >= 8
    found, counts = told(setting, tmp_path / "own", {latent: one.text for latent, one in good.items()})
    assert {latent: one.text for latent, one in found.items()} == {latent: one.text for latent, one in good.items()}
    latents = list(good)
    swapped = dict(zip(latents, [good[other].text for other in latents[1:] + latents[:1]], strict=True))
    others, _ = told(setting, tmp_path / "others", swapped)

    def mean(explanations, what: str) -> float:
        return sum(getattr(one.score("detection"), what) for one in explanations.values()) / len(explanations)

    figures = {
        "latents": len(found),
        "detection": mean(found, "value"),
        "by rule itself": mean(good, "value"),
        "shuffled": mean(found, "control"),
        "labels of others": mean(others, "value"),
        "questions": sum(counts["verdicts"].values()),
    }
    sys.stdout.write(json.dumps(figures) + "\n")
    assert figures["detection"] >= figures["by rule itself"] - 0.05 and abs(figures["shuffled"] - 0.5) <= 0.03
    assert figures["labels of others"] < figures["detection"] - 0.2
