"""A store of made-up text and a dictionary whose latents are known functions of it."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.inputs import Inputs
from actscope.core.predicate import Predicate
from actscope.core.site import Port, Site
from actscope.core.text import TokenText

SITE = "layers.0.mlp_out"
WORDS = (
    *(" Monday Tuesday Wednesday Thursday Friday".replace(" ", "| ").split("|")[1:]),
    " the", " a", " cat", " dog", " of", " and", " runs", " walking", " sitting", " eaten", " Anna", " Ben", " Carla",
    "\n", ".", " (", ")", ",", '"', " 1", " 2", " 3", "ing", "ed",
    *(f" w{i}" for i in range(60)),
)  # fmt: skip


class PlantedSubject:
    name, fingerprint, sites, missing, order, context, causal = "planted", "planted-1", {}, {}, (), 128, True

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return [WORDS[number] if number < len(WORDS) else "" for number in ids]

    def prepare(self, raw):
        raise NotImplementedError

    def run(self, inputs, *, read=(), write=(), grad=False, cache=None):
        raise NotImplementedError

    def weights(self):
        return {}

    def changed(self, change):
        return self


class PlantedStore:
    """Rows whose vector says which latents are active: column j is latent j's value."""

    def __init__(self, text: TokenText, vectors: Tensor):
        self._text, self._vectors = text, vectors
        self.ports = {Port.parse(SITE): vectors.shape[1]}
        self.subjects = {"": "planted-1"}
        self.content = "planted"
        self.documents = {number: f"document {number}" for number in text.where[:, 0].unique().tolist()}

    def __len__(self) -> int:
        return len(self._vectors)

    def batches(self, ports, size, *, seed=None, start=0) -> Iterator[Batch]:
        for piece in torch.arange(len(self)).split(size)[start:]:
            yield self.rows(piece, ports)

    def rows(self, index, ports) -> Batch:
        return Batch({Port.parse(SITE): self._vectors[index]}, self._text.where[index])

    def tokens(self, where, before, after):
        raise NotImplementedError

    def sequences(self, size, documents=None) -> Iterator[tuple[Inputs, Tensor]]:
        _, lengths = self._text.where[:, 0].unique_consecutive(return_counts=True)
        for number, ids in zip(self.documents, self._text.ids.split(lengths.tolist()), strict=True):
            if documents is None or number in documents:
                yield Inputs(ids=ids[None]), torch.tensor([[number, 0]])

    @property
    def text(self):
        return self._text.ids, self._text.where


class Readout(Dictionary):
    """Latent j is column j of the vectors."""

    def __init__(self, width: int):
        super().__init__(reads={Site.parse(SITE): width}, writes=None, n_latents=width, settings={})

    def preacts(self, x):
        return self.joined(x)

    def encode(self, x, *, grads=None) -> Codes:
        return Codes.from_dense(self.joined(x).relu())

    def decode(self, codes, x=None):
        return {self.write: codes.dense()}

    @property
    def atoms(self):
        return {self.write: torch.eye(self.n_latents)}


def planted(
    latents: Sequence[Predicate | float], *, documents: int = 150, length: int = 90, seed: int = 0, flip: float = 0.0
) -> tuple[Readout, PlantedSubject, PlantedStore]:
    """A latent for each rule, active where it holds; a number is a latent active at random with that probability.

    flip: the share of a rule's places where the latent is silent although it holds, at random.
    """
    generator = torch.Generator().manual_seed(seed)
    chance = torch.ones(len(WORDS))
    chance[:30] = 4.0
    ids = torch.multinomial(chance, documents * length, replacement=True, generator=generator)
    where = torch.stack([torch.arange(documents * length) // length, torch.arange(documents * length) % length + 1], 1)
    text = TokenText(ids, where, WORDS, torch.zeros(documents * length, dtype=torch.long))
    columns = []
    for latent in latents:
        noise = torch.rand(len(ids), generator=generator)
        held = noise < latent if isinstance(latent, float) else latent.holds(text) & (noise >= flip)
        columns.append(held * (0.1 + torch.rand(len(ids), generator=generator)))
    return Readout(len(latents)), PlantedSubject(), PlantedStore(text, torch.stack(columns, 1))
