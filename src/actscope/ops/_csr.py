"""Sums over the entries of a sparse matrix given as compressed rows, without ever filling it.

Letters: n rows, m columns, d width of the dense side, nnz entries.
"""

import warnings

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from actscope.ops import _triton


def times(
    indptr: Int[Tensor, " rows"], index: Int[Tensor, " nnz"], value: Float[Tensor, " nnz"], dense: Float[Tensor, "m d"]
) -> Float[Tensor, "n d"]:
    """The sparse matrix [n m] times a dense one: for every row the weighted sum of the rows it names."""
    if len(index) == 0 or len(indptr) == 1:
        return dense.new_zeros(len(indptr) - 1, dense.shape[1])
    if _takes(indptr, index, value, dense):
        out = dense.new_empty(len(indptr) - 1, dense.shape[1])
        _triton.gather(indptr, index, value, dense, out)
        return out
    return functional.embedding_bag(index, dense, indptr[:-1], mode="sum", per_sample_weights=value)


def times_into(
    indptr: Int[Tensor, " rows"],
    index: Int[Tensor, " nnz"],
    value: Float[Tensor, " nnz"],
    dense: Float[Tensor, "m d"],
    out: Float[Tensor, "n d"],
) -> None:
    """`times`, into an array that is there."""
    if len(index) == 0 or dense.dtype not in (torch.float32, torch.float64) or dense.device.type != "cpu":
        out.copy_(times(indptr, index, value, dense))
        return
    with warnings.catch_warnings():  # torch says once that compressed rows are in beta
        warnings.simplefilter("ignore")
        matrix = torch.sparse_csr_tensor(indptr, index, value, (len(out), len(dense)))
        torch.addmm(out, matrix, dense, beta=0.0, out=out)


def transposed(
    indptr: Int[Tensor, " rows"], index: Int[Tensor, " nnz"], width: int
) -> tuple[Int[Tensor, " columns"], Int[Tensor, " nnz"], Int[Tensor, " nnz"]]:
    """(indptr, index, order) of the transpose; its values are `value[order]`. Entries keep the order of their rows."""
    ordered, order = index.sort(stable=True)
    row = torch.repeat_interleave(torch.arange(len(indptr) - 1, device=index.device), indptr.diff(), output_size=len(index))
    return torch.searchsorted(ordered, torch.arange(width + 1, device=index.device)), row[order], order


def products(
    indptr: Int[Tensor, " rows"], index: Int[Tensor, " nnz"], left: Float[Tensor, "n d"], right: Float[Tensor, "m d"]
) -> Float[Tensor, " nnz"]:
    """left[row] . right[column] for every entry: the product left @ right.T at the entries alone."""
    if len(index) > 0 and _takes(indptr, index, left, right):
        out = left.new_empty(len(index))
        _triton.products(indptr, index, left, right, out)
        return out
    if len(index) == 0 or left.dtype not in (torch.float32, torch.float64):
        row = torch.repeat_interleave(torch.arange(len(indptr) - 1, device=index.device), indptr.diff())
        return (left[row] * right[index]).sum(1)
    with warnings.catch_warnings():  # torch says once that compressed rows are in beta
        warnings.simplefilter("ignore")
        places = torch.sparse_csr_tensor(indptr, index, left.new_zeros(len(index)), (len(left), len(right)))
        return torch.sparse.sampled_addmm(places, left, right.T, beta=0.0).values()


def _takes(indptr: Tensor, index: Tensor, one: Tensor, other: Tensor) -> bool:
    """Whether the Triton kernels take these arrays."""
    return {one.dtype, other.dtype} <= set(_triton.FLOATS) and _triton.wanted(indptr, index, one, other)
