"""A tiny GPT-NeoX in which one direction raises one token, a dictionary that holds it, and a store of random documents."""

import torch
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from actscope.core.codes import Codes
from actscope.core.dictionary import Dictionary
from actscope.core.inputs import Inputs
from actscope.core.site import Site
from actscope.core.store import Store
from actscope.corpora.texts import texts
from actscope.stores.capture import capture
from actscope.subjects.hf import HFSubject

SITE = Site("resid_post", 0)
WIDTH, VOCABULARY = 32, 64
TRIGGER, RAISED = 7, 9  # the token whose embedding holds the direction, and the token the direction raises


def planted_subject(strength: float = 6.0) -> tuple["Numbers", Tensor]:
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
    return Numbers(model, name="planted"), direction


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


class Numbers(HFSubject):
    """Reads texts of token numbers, such as "7 9 30"."""

    def prepare(self, raw):
        rows = [[int(word) for word in text.split()] for text in raw]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        offsets = torch.zeros(*ids.shape, 2, dtype=torch.long)
        return Inputs(ids=ids, mask=mask, roles=torch.zeros_like(ids), offsets=offsets)


def store_of(subject: Numbers, n: int = 120, length: int = 24) -> Store:
    """A store of documents of random token numbers, one in twelve of them TRIGGER."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, VOCABULARY, (n, length), generator=generator)
    ids = torch.where(torch.rand(n, length, generator=generator) < 0.08, TRIGGER, ids)
    return capture(subject, texts([" ".join(map(str, row)) for row in ids.tolist()]), [SITE])
