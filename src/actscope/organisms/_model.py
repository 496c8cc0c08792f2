"""A small GPT-NeoX language model as something the training loop can train.

Letters: b rows, t tokens.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from actscope.core import group
from actscope.core.dictionary import TrainableModule

IGNORED = -100  # target of a token after which its document ends


class Rows(NamedTuple):
    """Documents packed into rows. Attention never crosses from one document to another."""

    ids: Int[Tensor, "b t"]
    targets: Int[Tensor, "b t"]  # the next token, or IGNORED
    document: Int[Tensor, "b t"]  # which of the row's documents; -1 for padding
    positions: Int[Tensor, "b t"]  # from 0 in each document

    def to(self, device: str) -> "Rows":
        return Rows(*(value.to(device) for value in self))


class LanguageModel(TrainableModule):
    """Trainable: mean cross-entropy of the next token, in nats.

    settings: the sizes, for resuming. narrow: matrix products in bfloat16. compiled: through torch.compile.
    kept: called with (step, parameters) after each step; checkpoints are made there.
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int,
        layers: int,
        heads: int,
        context: int,
        seed: int = 0,
        narrow: bool = True,
        compiled: bool = False,
        kept: Callable[[int, Mapping[str, Tensor]], None] | None = None,
    ):
        super().__init__()
        self.settings = {"vocabulary": vocabulary, "width": width, "layers": layers, "heads": heads, "context": context}
        config: dict[str, Any] = {
            "vocab_size": vocabulary, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
            "intermediate_size": 4 * width, "max_position_embeddings": context, "rotary_pct": 0.5, "hidden_act": "gelu",
            "use_parallel_residual": True, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0,
            "pad_token_id": 0, "use_cache": False, "attn_implementation": "eager",
        }  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = GPTNeoXForCausalLM(GPTNeoXConfig(**config))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.narrow = narrow
        self._loss = torch.compile(self._eager) if compiled else self._eager
        self._kept = kept

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return self.model.parameters(recurse)

    def objective(self, batch: Rows, *, progress: float) -> dict[str, Tensor]:
        """{"loss": nats per token}."""
        seen = (batch.document[:, None, :, None] == batch.document[:, None, None, :]).tril()
        mask = torch.zeros(seen.shape, dtype=torch.bfloat16 if self.narrow else torch.float32, device=seen.device)
        mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)
        count = (batch.targets != IGNORED).sum() / len(batch.targets)  # tokens a row, by which rows held elsewhere are weighed
        return {"loss": self._loss(batch.ids, batch.targets, mask, batch.positions) * (count / group.rows().mean(count))}

    def _eager(self, ids: Tensor, targets: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=self.narrow):
            logits = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED)

    def after_step(self, progress: float) -> None:
        self.steps += 1
        if self._kept is not None:
            self._kept(int(self.steps), self.weights())

    def weights(self) -> dict[str, Tensor]:
        """The model's own tensors, as transformers names them."""
        return dict(self.model.state_dict())
