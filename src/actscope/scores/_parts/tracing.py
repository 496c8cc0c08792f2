"""Where in what a model predicts a change of its input shows. KL tracing: Kim, Aw, Kotar et al. 2025, "Taming generative video
models for zero-shot optical flow extraction" (arXiv:2507.09082).

Letters: b batch, t places at which something is predicted, v values it may take.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def divergence(clean: Float[Tensor, "b t v"], other: Float[Tensor, "b t v"]) -> Float[Tensor, "b t"]:
    """KL(clean || other), nats."""
    p, q = clean.float().log_softmax(-1), other.float().log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).double()


def peak(trace: Float[Tensor, "b t"], among: Bool[Tensor, "b t"]) -> Int[Tensor, " b"]:
    """The place where it shows most, among some."""
    return trace.masked_fill(~among, -torch.inf).argmax(1)
