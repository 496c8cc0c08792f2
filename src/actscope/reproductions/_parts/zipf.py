"""Text whose tokens may be as frequent as words are, and a small transformer that learns to go on with it.

    p(x) ~ rank(x)^-skew; of a next token y after x in a document on topic z:
    p(y | x, z) ~ p(y) exp(affinity of x and y + affinity of z and y), each a random matrix

Letters: b and n documents, t tokens, v vocabulary, d width, z topics.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from actscope.core.change import Change, Delta
from actscope.core.dictionary import TrainableModule
from actscope.core.site import Site
from actscope.corpora.texts import Texts, texts
from actscope.organisms._block import Block
from actscope.subjects.module import ModuleSubject, wrap
from actscope.training.drawn import Drawn
from actscope.training.fit import fit
from actscope.training.plan import Plan

LENGTH = 16  # tokens of a document
RANK, FALL = 32, 0.5  # of the affinities of tokens: how many directions they have, and the power with which these weaken


@dataclass(frozen=True)
class Language:
    """What a document begins with, and what follows each of its tokens; cumulative over tokens."""

    begins: Float[Tensor, "z v"]
    follows: Float[Tensor, "z v v"]

    def documents(self, count: int, *, seed: int) -> Int[Tensor, "n t"]:
        """Documents drawn anew; the same seed gives the same ones."""
        draw = torch.Generator().manual_seed(seed)
        topic = torch.randint(len(self.begins), (count,), generator=draw)
        chance = torch.rand(LENGTH, count, 1, generator=draw)
        most = self.begins.shape[1] - 1
        token = torch.searchsorted(self.begins[topic], chance[0])[:, 0].clamp(max=most)
        said = [token]
        for one in chance[1:]:
            token = torch.searchsorted(self.follows[topic, token], one)[:, 0].clamp(max=most)
            said.append(token)
        return torch.stack(said, 1)

    def corpus(self, count: int, *, seed: int) -> Texts:
        """Documents that no seed of training draws: "<17><3>"."""
        rows = self.documents(count, seed=_JUDGED + seed).tolist()
        return texts(("".join(f"<{token}>" for token in row) for row in rows), name=f"documents {seed}")


def language(vocabulary: int, *, skew: float, topics: int, sharpness: float, topical: float, seed: int) -> Language:
    """skew: 1 for Zipf's law, 0 for tokens that are all as frequent. sharpness, topical: standard deviations of the affinities
    of tokens and of topics, in nats."""
    draw = torch.Generator().manual_seed(seed)
    often = torch.arange(1, vocabulary + 1) ** -skew
    strength = torch.arange(1, RANK + 1) ** -FALL
    affinity = (torch.randn(vocabulary, RANK, generator=draw) * strength) @ torch.randn(RANK, vocabulary, generator=draw)
    topic = often.log() + topical * torch.randn(topics, vocabulary, generator=draw)
    follows = topic[:, None] + sharpness * affinity / affinity.std()
    return Language(topic.softmax(-1).cumsum(-1), follows.softmax(-1).cumsum(-1))


class Speaker(TrainableModule):
    """Trainable: mean cross-entropy of the next token, in nats. forward: ids -> a score for each next token.

    kept: its weights at `marks`, numbers of steps taken.
    """

    def __init__(self, *, vocabulary: int, width: int, layers: int, heads: int, seed: int, marks: frozenset[int]):
        super().__init__()
        self.settings = {"vocabulary": vocabulary, "width": width, "layers": layers, "heads": heads, "seed": seed}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.token, self.place = nn.Embedding(vocabulary, width), nn.Embedding(LENGTH, width)
            self.blocks = nn.ModuleList(Block(width, heads, causal=True) for _ in range(layers))
            self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False)
            for table in (self.token, self.place, self.output):
                nn.init.normal_(table.weight, std=0.02)
        self.marks, self.taken = marks, 0
        self.kept: dict[int, dict[str, Tensor]] = {}
        self._keep()

    def forward(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        x = self.token(ids) + self.place.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x))

    def objective(self, batch: Int[Tensor, "b t"], *, progress: float) -> dict[str, Tensor]:
        """{"loss": nats a token}."""
        return {"loss": functional.cross_entropy(self(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())}

    def after_step(self, progress: float) -> None:
        self.taken += 1
        self._keep()

    def _keep(self) -> None:
        if self.taken in self.marks:
            self.kept[self.taken] = {name: value.detach().clone() for name, value in self.named_parameters()}


def checkpoints(
    spoken: Language, *, width: int, layers: int, heads: int, steps: int, batch: int, lr: float, seed: int
) -> dict[int, ModuleSubject]:
    """Steps taken -> the model then: before the first, and at steps that grow by a third each time."""
    marks = frozenset({0, steps, *(round((4 / 3) ** power) for power in range(60) if (4 / 3) ** power < steps)})
    vocabulary = spoken.begins.shape[1]
    model = Speaker(vocabulary=vocabulary, width=width, layers=layers, heads=heads, seed=seed, marks=marks)
    source = Drawn(lambda size, number: spoken.documents(size, seed=number), {"speaker": seed})
    fit(model, source, Plan(rows=steps * batch, batch=batch, lr=lr, warmup=0.02, decay=0.0, seed=seed))
    model.requires_grad_(False)
    sites: dict[str | Site, str] = {
        "final_norm": "norm",
        **{f"layers.{layer}.resid_post": f"blocks.{layer}" for layer in range(layers)},
    }
    example = torch.zeros(1, 2, dtype=torch.long)
    last = wrap(model, sites=sites, name=f"speaker-{seed}", example=example, context=LENGTH)
    return {
        step: last.changed(Change(weights={name: Delta(value, replaces=True) for name, value in weights.items()}))
        for step, weights in sorted(model.kept.items())
    }


_JUDGED = 1 << 40  # seeds from here on are those of documents to judge on
