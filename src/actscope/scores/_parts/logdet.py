"""The mean log eigenvalue of C + a I, where C = Z J Z^T is the covariance of k vectors over their own coordinates.

Exactly, from all eigenvalues: k^3. Estimated from the density of states (Lin, Saad and Yang 2016, "Approximating spectral
densities of large matrices", arXiv:1308.5467): for random sign vectors v, v^T log(A) v / k is the mean log eigenvalue on
average; a few steps of Lanczos from v give a matrix of that many rows whose eigenvalues and first components are the Gauss
quadrature of v's density of states, into which the logarithm is put. Only products with Z are needed, 2 k d each.

Mohammadzadeh et al. 2024 expand the same density in Chebyshev polynomials. On covariances whose eigenvalues span six orders of
magnitude, as those with a = 0.001 do, no affordable degree follows a logarithm near a (`chebyshev` is kept to show that); the
quadrature does, at the same number of products.

Letters: k vectors, d width, s steps, p probes.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def mean_log_eigenvalue(z: Float[Tensor, "k d"], a: float) -> float:
    """From all eigenvalues, in float64."""
    c = _centred(z.double())
    return float(torch.linalg.eigvalsh(c @ c.T).clamp_min(0.0).add(a).log().mean())


def mean_log_eigenvalue_estimated(
    z: Float[Tensor, "k d"], a: float, *, steps: int = 20, probes: int = 8, seed: int = 0
) -> float:
    """From the density of states. The eigenvalues that Z J Z^T and its smaller sibling do not share are a."""
    c = _centred(z.float())
    k = len(c)
    c = c.T.contiguous() if k > c.shape[1] else c
    least = len(c)
    steps = min(steps, least)
    lanczos = _lanczos(c, steps, probes, seed)
    value, vector = torch.linalg.eigh(lanczos)
    weight = vector[:, 0].square()
    mean = float((weight * value.clamp_min(0.0).add(a).log()).sum(1).mean())
    return (least * mean + (k - least) * math.log(a)) / k


def chebyshev(z: Float[Tensor, "k d"], a: float, *, degree: int = 20, probes: int = 4, seed: int = 0) -> float:
    """The same by Chebyshev moments, as Mohammadzadeh et al. take them: A scaled to [-1, 1], sum of moments times
    coefficients."""
    c = _centred(z.float())
    v = _signs(len(c), probes, seed)
    top = 1.05 * _largest(c, seed) + a
    middle, half = (top + a) / 2, (top - a) / 2
    node = (torch.arange(4 * degree, dtype=torch.float64) + 0.5) * math.pi / (4 * degree)
    log = (middle + half * node.cos()).log()
    weight = torch.stack([(log * (j * node).cos()).mean() * (1 if j == 0 else 2) for j in range(degree)]).float()
    before, now = v, (c @ (c.T @ v) + (a - middle) * v) / half
    total = weight[0] * (v * before).sum(0) + weight[1] * (v * now).sum(0)
    for j in range(2, degree):
        before, now = now, 2 * (c @ (c.T @ now) + (a - middle) * now) / half - before
        total = total + weight[j] * (v * now).sum(0)
    return float(total.mean()) / len(c)


def _centred(z: Float[Tensor, "k d"]) -> Float[Tensor, "k d"]:
    return z - z.mean(1, keepdim=True)


def _signs(k: int, p: int, seed: int) -> Float[Tensor, "k p"]:
    return torch.randint(0, 2, (k, p), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1


def _largest(c: Float[Tensor, "k d"], seed: int) -> float:
    """The largest eigenvalue of C C^T by the power method."""
    v = _signs(len(c), 1, seed)
    for _ in range(12):
        v = torch.nn.functional.normalize(c @ (c.T @ v), dim=0)
    return float((c.T @ v).square().sum())


def _lanczos(c: Float[Tensor, "k d"], s: int, p: int, seed: int) -> Float[Tensor, "p s s"]:
    """The tridiagonal matrices of s steps of Lanczos on C C^T from p sign vectors, orthogonal to all steps before."""
    q = _signs(len(c), p, seed) / len(c) ** 0.5
    basis, diagonal, beside = [q], [], []
    for _ in range(s):
        w = c @ (c.T @ q)
        diagonal.append((w * q).sum(0))
        for one in basis:
            w = w - one * (one * w).sum(0)
        beside.append(w.norm(dim=0))
        q = w / beside[-1].clamp_min(1e-30)
        basis.append(q)
    off = torch.stack(beside[:-1], 1).double() if s > 1 else torch.zeros(p, 0).double()
    middle = torch.stack(diagonal, 1).double()
    return torch.diag_embed(middle) + torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
