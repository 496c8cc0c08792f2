"""Explain planted latents with a server and a ledger: explain_child.py URL FOLDER. A process that tests may kill."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "explainers"))

import torch
from planted_rules import planted

from actscope.core.ledger import Ledger
from actscope.core.predicate import TokenIn
from actscope.explainers.judges.language_model import LanguageModel
from actscope.explainers.language_model import language_model
from actscope.explainers.sources.endpoint import Endpoint


def explained(url: str, folder: str) -> list:
    made = planted([TokenIn((word,)) for word in (" the", " a", " cat", " dog", " of", " and")], documents=150, length=60)
    with Ledger(Endpoint(url, "m"), folder, concurrent=2) as kept:
        return language_model(*made, ledger=kept, judge=LanguageModel(kept), contexts=20, most=20, similar=0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    explained(*sys.argv[1:])
