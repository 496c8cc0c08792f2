"""The mean log eigenvalue of C + a I, where C = Z J Z^T is the covariance of k vectors over their own coordinates.

Exactly, from the factor of Cholesky: the eigenvalues' logarithms add up to those of its squared diagonal. Estimated from the
density of states (Lin, Saad and Yang 2016, "Approximating spectral densities of large matrices", arXiv:1308.5467): for random
sign vectors v, v^T log(A) v / k is the mean log eigenvalue on average; a few steps of Lanczos from v give a matrix of that many
rows whose eigenvalues and first components are the Gauss quadrature of v's density of states, into which the logarithm is put.
Only products with Z are needed, 2 k d each.

Mohammadzadeh et al. 2024 expand the same density in Chebyshev polynomials. On covariances whose eigenvalues span six orders of
magnitude, as those with a = 0.001 do, no affordable degree follows a logarithm near a (`chebyshev` is kept to show that); the
quadrature does, at the same number of products.

Vectors are rows here: few rows times a large matrix is several times as fast as a large matrix times few columns.
Letters: k vectors, d width, s steps, p probes.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def mean_log_eigenvalue(z: Float[Tensor, "k d"], a: float) -> float:
    """From the determinant, in float64."""
    k = len(z)
    c = _smaller(z.double())
    gram = c @ c.T
    gram.diagonal().add_(a)
    logs = 2 * float(torch.linalg.cholesky(gram).diagonal().log().sum())
    return (logs + (k - len(c)) * math.log(a)) / k


def mean_log_eigenvalue_estimated(
    z: Float[Tensor, "k d"], a: float, *, steps: int = 20, probes: int = 8, seed: int = 0
) -> float:
    """From the density of states."""
    k = len(z)
    c = _smaller(z.float())
    lanczos = _lanczos(c, min(steps, len(c)), probes, seed)
    value, vector = torch.linalg.eigh(lanczos)
    weight = vector[:, 0].square()
    mean = float((weight * value.clamp_min(0.0).add(a).log()).sum(1).mean())
    return (len(c) * mean + (k - len(c)) * math.log(a)) / k


def chebyshev(z: Float[Tensor, "k d"], a: float, *, degree: int = 20, probes: int = 4, seed: int = 0) -> float:
    """The same by Chebyshev moments, as Mohammadzadeh et al. take them: A scaled to [-1, 1], sum of moments times
    coefficients."""
    c = _centred(z.float())
    v = _signs(probes, len(c), seed)
    top = 1.05 * _largest(c, seed) + a
    middle, half = (top + a) / 2, (top - a) / 2
    node = (torch.arange(4 * degree, dtype=torch.float64) + 0.5) * math.pi / (4 * degree)
    log = (middle + half * node.cos()).log()
    weight = torch.stack([(log * (j * node).cos()).mean() * (1 if j == 0 else 2) for j in range(degree)]).float()
    before, now = v, (_product(v, c) + (a - middle) * v) / half
    total = weight[0] * (v * before).sum(1) + weight[1] * (v * now).sum(1)
    for j in range(2, degree):
        before, now = now, 2 * (_product(now, c) + (a - middle) * now) / half - before
        total = total + weight[j] * (v * now).sum(1)
    return float(total.mean()) / len(c)


def _centred(z: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    return z - z.mean(1, keepdim=True)


def _smaller(z: Float[Tensor, "k d"]) -> Float[Tensor, "m n"]:
    """Centred, and turned so that its rows are the fewer: the eigenvalues that Z J Z^T and its smaller sibling do not share are
    0, and a once a I is added."""
    c = _centred(z)
    return c.T.contiguous() if len(c) > c.shape[1] else c


def _signs(p: int, k: int, seed: int) -> Float[Tensor, "p k"]:
    return torch.randint(0, 2, (p, k), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1


def _product(v: Float[Tensor, "p k"], c: Float[Tensor, "k d"]) -> Float[Tensor, "p k"]:
    """Each row times C C^T."""
    return (v @ c) @ c.T


def _largest(c: Float[Tensor, "k d"], seed: int) -> float:
    """The largest eigenvalue of C C^T by the power method."""
    v = _signs(1, len(c), seed)
    for _ in range(12):
        v = torch.nn.functional.normalize(_product(v, c), dim=1)
    return float((v @ c).square().sum())


def _lanczos(c: Float[Tensor, "k d"], s: int, p: int, seed: int) -> Float[Tensor, "p s s"]:
    """The tridiagonal matrices of s steps of Lanczos on C C^T from p sign vectors, orthogonal to all steps before."""
    basis = torch.zeros(p, s, len(c))
    q = _signs(p, len(c), seed) / len(c) ** 0.5
    diagonal, beside = [], []
    for step in range(s):
        basis[:, step] = q
        w = _product(q, c)
        diagonal.append((w * q).sum(1))
        before = basis[:, : step + 1]
        along = (before * w[:, None]).sum(2)
        w = w - (along[:, None] @ before)[:, 0]
        beside.append(w.norm(dim=1))
        q = w / beside[-1].clamp_min(1e-30)[:, None]
    off = torch.stack(beside[:-1], 1).double() if s > 1 else torch.zeros(p, 0).double()
    middle = torch.stack(diagonal, 1).double()
    return torch.diag_embed(middle) + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
