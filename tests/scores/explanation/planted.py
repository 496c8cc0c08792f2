"""A tiny GPT-NeoX in which one direction raises one token, a dictionary that holds it, and a store of random documents."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from actscope.core.batch import Batch
from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.inputs import Inputs
from actscope.core.site import Port, Site
from actscope.subjects.hf import HFSubject

SITE = Site("resid_post", 0)
WIDTH, VOCABULARY = 32, 64
TRIGGER, RAISED = 7, 9  # the token whose embedding holds the direction, and the token the direction raises


def planted_subject(strength: float = 6.0) -> tuple[HFSubject, Tensor]:
    """A random model in which the direction returned stands at TRIGGER and raises the logit of RAISED."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=VOCABULARY,
        max_position_embeddings=48, rotary_pct=0.25, initializer_range=0.1,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config).eval()
    direction = torch.nn.functional.normalize(torch.randn(WIDTH), dim=0)
    with torch.no_grad():
        model.get_input_embeddings().weight[TRIGGER] += strength * direction
        model.get_output_embeddings().weight[RAISED] += 0.5 * direction
    return HFSubject(model, name="planted"), direction


class Directions(Dictionary):
    """relu(x @ encoder - threshold), each latent along an atom of its own."""

    def __init__(self, encoder: Tensor, atoms: Tensor, threshold: Tensor):
        super().__init__(reads={SITE: WIDTH}, writes=None, n_latents=len(encoder), settings={})
        self.encoder, self.directions, self.threshold = encoder, atoms, threshold

    def preacts(self, x):
        return self.joined(x) @ self.encoder.T - self.threshold

    def encode(self, x, *, grads=None):
        return Codes.from_dense(self.preacts(x).relu())

    def decode(self, codes, x=None):
        return {self.write: codes.dense() @ self.directions}

    @property
    def atoms(self):
        return {self.write: self.directions}


def dictionary_of(direction: Tensor, nulls: int = 20, others: int = 80) -> Directions:
    """Latent 0 is the planted direction; then `nulls` latents that add the same number to every coordinate, which every
    layer norm takes away again; then random directions."""
    encoder = torch.nn.functional.normalize(torch.randn(1 + nulls + others, WIDTH), dim=1)
    encoder[0] = direction
    atoms = encoder.clone()
    atoms[1 : 1 + nulls] = WIDTH**-0.5
    threshold = torch.full((len(encoder),), 0.3)
    threshold[0] = 1.0
    return Directions(encoder, atoms, threshold)


class Documents:
    """A store of documents of random token ids, each one sequence."""

    def __init__(self, subject: HFSubject, n: int = 120, length: int = 24, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, VOCABULARY, (n, length), generator=generator)
        self.ids = torch.where(torch.rand(n, length, generator=generator) < 0.08, TRIGGER, ids)
        x = subject.run(self.ids, read=[SITE]).acts[SITE]
        self.ports, self.subjects = {Port(SITE): WIDTH}, {"": subject.fingerprint}
        self.documents = {number: f"document {number}" for number in range(n)}
        places = torch.cartesian_prod(torch.arange(n), torch.arange(length))
        self.rows_, self.where = x.flatten(0, 1), places

    def __len__(self) -> int:
        return len(self.where)

    def batches(self, ports: Iterable, size: int, *, seed: int | None = None, start: int = 0) -> Iterator[Batch]:
        for at in range(start * size, len(self), size):
            yield Batch({Port.parse(port): self.rows_[at : at + size] for port in ports}, self.where[at : at + size])

    @property
    def text(self) -> tuple[Tensor, Tensor]:
        return self.ids.flatten(), self.where

    def sequences(self, size: int, documents: Iterable[int] | None = None) -> Iterator[tuple[Inputs, Tensor]]:
        chosen = torch.tensor(sorted(self.documents if documents is None else documents))
        for part in chosen.split(size):
            yield Inputs(ids=self.ids[part]), torch.stack([part, torch.zeros_like(part)], dim=1)

    def rows(self, index: Tensor, ports: Iterable) -> Batch:
        return Batch({Port.parse(port): self.rows_[index] for port in ports}, self.where[index])

    def tokens(self, where: Tensor, before: int, after: int) -> Tensor:
        places = where[:, 1:] + torch.arange(-before, after + 1)
        inside = (places >= 0) & (places < self.ids.shape[1])
        return torch.where(inside, self.ids[where[:, :1], places.clamp(0, self.ids.shape[1] - 1)], -1)
