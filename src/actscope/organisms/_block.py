"""A transformer's block with its norms before what they serve.

Letters: b batch, t tokens, d width.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Attention and an MLP, each added to the stream. causal: a token sees none after it. inner: neurons of the MLP (None:
    twice the width); relu: whether they are ReLU in place of GELU."""

    def __init__(self, width: int, heads: int, *, causal: bool, inner: int | None = None, relu: bool = False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.taken, self.given = nn.Linear(width, 3 * width), nn.Linear(width, width)
        inner = 2 * width if inner is None else inner
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.ReLU() if relu else nn.GELU(), nn.Linear(inner, width))

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.taken(self.before(x)).chunk(3, dim=2))
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.given(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.between(x))
