"""A training step of a TopK wiring written by hand: the mathematics of `Wiring.objective` and Adam, in a tenth of the memory.

    1. Encode a tile of rows at a time and keep the k largest; the product may run in bfloat16, from a copy of the encoder
       that Adam refreshes, and be screened in int8; its sums, the parameters and everything below stay in float32.
                                                                                    (ops/encode_topk, coarse_topk, topk)
    2. Decode, compare, and say how the error changes with each code: one visit to each active atom.       (ops/rebuild)
    3. Gradients of encoder, atoms and biases from the active entries alone; those of dead latents from AuxK on top, by
       autograd over the dead rows alone.                                            (ops/sparse_grad, _parts/revival)
    4. Clip by the norm of the whole gradient, as the autograd path does: gradients are kept, 2 m d numbers, so that the
       norm is known before the first parameter moves.
    5. Adam, unit atoms and the bfloat16 copy in one pass.                                                    (ops/adam)

A batch whose loss or gradient is not finite changes nothing and returns a loss of NaN. On a GPU that has its kernels the
step waits for the device twice: for which latents are dead, before anything else, and for loss and norm, before Adam.
Letters: n rows, d width read, o width written, m latents, k active.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from actscope.core import group
from actscope.core.batch import Batch
from actscope.dictionaries._parts import unit_norm
from actscope.dictionaries._parts.select_topk import Select
from actscope.dictionaries._parts.selection import Selection
from actscope.dictionaries._parts.wiring import Wiring
from actscope.ops import _native, _triton, adam, coarse_topk, encode_topk, rebuild, sparse_grad
from actscope.ops.adam import Slot

DEVICES = ("cpu", "cuda")
NAMES = ("decoder", "encoder", "bias", "centre", "skip")


class FusedTopK:
    """The `FusedStep` of a wiring whose rule is TopK. k: active latents. clip: the highest norm of the gradient.
    matmul: dtype of the encoder's product, "float32" or "bfloat16". Its state has the keys that autograd's descent has."""

    def __init__(self, wiring: Wiring, *, k: int, clip: float, matmul: str):
        kernels = _native if wiring.encoder.device.type == "cpu" else _triton
        kernels.say_once()
        self.wiring, self.k, self.clip = wiring, k, clip
        parameters = dict(wiring.named_parameters())
        self.order = list(parameters)
        self.parameters = {name: parameters[name].detach() for name in NAMES if name in parameters}
        assert set(self.parameters) == set(parameters), f"unknown to the fused step: {set(parameters) - set(NAMES)}"
        self.grads = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.first = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.second = {name: torch.zeros_like(value) for name, value in self.parameters.items()}
        self.taken = torch.zeros(())
        encoder = self.parameters["encoder"]
        self.shadow = encoder.to(torch.bfloat16) if matmul == "bfloat16" else None
        shadow = self.shadow
        self.coarse = coarse_topk.Coarse.of(shadow) if shadow is not None and coarse_topk.pays(shadow, k) else None
        self.rows: dict[str, Tensor] = {}  # arrays of one batch, made once for the largest

    @torch.no_grad()
    def step(self, batch: Batch, lr: float, progress: float) -> dict[str, float]:
        wiring, rows, n = self.wiring, group.rows(), len(batch)
        dead = wiring.revival.dead.nonzero().flatten()
        x, y = self._targets(batch)
        target = y if wiring.skip is None else torch.addmm(y, x, self.parameters["skip"].T, alpha=-1)
        centred = torch.sub(x, wiring.subtracted, out=self._array("centred", x.shape))
        index, value = self._encode(centred)
        error, slope = self._array("error", target.shape), self._array("slope", value.shape)
        size = rows.count(n) * target.shape[1]  # coordinates of the batch in all, of which others may hold some
        factor = 2 / size
        centre = self.parameters["centre"]
        total = rebuild.fast(index, value, self.parameters["decoder"], centre, target, factor, error, slope)
        groups, squares = self._gradients(index, value, slope, centred, error, x, factor)
        aux, square = self._revive(dead, x, error, squares)
        if rows.size > 1:
            rows.add_up(*self.grads.values())
            square = torch.stack([torch.linalg.vector_norm(grad).double() for grad in self.grads.values()]).square().sum()
        per_row = _per_row(total, centred if wiring.same else y - centre)
        found = torch.stack([one.double() for one in (*per_row, aux, square, wiring.revival.share)])
        left, spread, extra, squared, share = found.tolist()
        loss, norm = left / target.shape[1] + extra, squared**0.5
        wiring.revival.count(groups.fired, n)
        if not (norm < float("inf") and abs(loss) < float("inf")):
            return {"loss": float("nan"), "fvu": float("nan"), "dead": share}
        self._move(max(norm / self.clip, 1.0), lr)
        return {"loss": loss, "fvu": left / spread if spread else float("nan"), "dead": share}

    def after_step(self, progress: float) -> None:
        """Nothing is left to do: the step set the atoms back to length 1 and counted what fired."""

    def state(self) -> dict[str, Tensor]:
        """Adam's moments by the number of the parameter, and how many steps it took."""
        moments = {f"first.{i}": self.first[name] for i, name in enumerate(self.order)}
        return {**moments, **{f"second.{i}": self.second[name] for i, name in enumerate(self.order)}, "taken": self.taken}

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, value in self.state().items():
            value.copy_(state[name])
        if self.shadow is not None:
            self.shadow.copy_(self.parameters["encoder"])
        self._screen()

    def _screen(self) -> None:
        if self.coarse is not None and self.shadow is not None:
            self.coarse.take(self.shadow)

    def _targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(what is read, what is to be written), scaled."""
        wiring = self.wiring
        given = wiring.joined(batch.acts)
        x = torch.div(given, wiring.scale_read, out=self._array("x", given.shape))
        if wiring.same:
            return x, x
        given = wiring.written(batch)
        return x, torch.div(given, wiring.scale_written, out=self._array("y", given.shape))

    def _encode(self, centred: Tensor) -> tuple[Tensor, Tensor]:
        n = len(centred)
        index = self._array("index", (n, self.k), torch.long)
        value = self._array("value", (n, self.k))
        weight, bias = self.parameters["encoder"] if self.shadow is None else self.shadow, self.parameters["bias"]
        if self.coarse is not None:
            tile = self._array("tile", (coarse_topk.cells(n, len(weight)),), torch.int32)
            coarse_topk.into(centred, weight, self.coarse, bias, index, value, tile)
        else:
            tile = self._array("tile", (encode_topk.cells(n, len(weight), weight.dtype),), weight.dtype)
            encode_topk.into(centred, weight, bias, index, value, tile)
        return index, value

    def _gradients(
        self, index: Tensor, value: Tensor, slope: Tensor, centred: Tensor, error: Tensor, x: Tensor, factor: float
    ) -> tuple[sparse_grad.Groups, Tensor]:
        """Fill the gradients; returns the entries by latent, and |gradient|^2 of decoder and encoder by latent [2 m]."""
        grads, wiring = self.grads, self.wiring
        groups = sparse_grad.group(index, value, wiring.n_latents)
        atoms = self.parameters["decoder"]
        written = sparse_grad.fast(groups, value, error, factor, grads["decoder"], atoms)
        read = sparse_grad.fast(groups, slope, centred, 1.0, grads["encoder"])
        grads["bias"].zero_().index_add_(0, index.view(-1), slope.view(-1))
        torch.sum(error, 0, out=grads["centre"])
        grads["centre"] *= factor
        if wiring.same:
            grads["centre"].addmv_(self.parameters["encoder"].T, grads["bias"], alpha=-1)
        if wiring.skip is not None:
            torch.mm(error.T, x, out=grads["skip"])
            grads["skip"] *= factor
        return groups, torch.stack([written, read])

    def _revive(self, dead: Tensor, x: Tensor, error: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
        """(AuxK's loss, |gradient|^2 in all), its gradients added to those of the dead latents."""
        revival, wiring, aux = self.wiring.revival, self.wiring, error.new_zeros(())
        if revival.weight and revival.needed(len(dead)):
            rows = [self.parameters[name][dead].requires_grad_() for name in ("encoder", "bias", "decoder")]
            with torch.enable_grad():
                encoder, bias, atoms = rows
                loss = revival.lost(x, -error, encoder, bias, wiring.subtracted, unit_norm.on_sphere(atoms))
            aux, share = loss.detach(), torch.full_like(loss, group.rows().weight)  # of the batch, as in all other gradients
            for name, grad in zip(("encoder", "bias", "decoder"), torch.autograd.grad(loss, rows, share), strict=True):
                self.grads[name].index_add_(0, dead, grad)
            for number, name in enumerate(("decoder", "encoder")):
                squares[number, dead] = self.grads[name][dead].square().sum(1).to(squares.dtype)
        small = [self.grads[name].square().sum().double() for name in ("bias", "centre", "skip") if name in self.grads]
        return aux, squares.double().sum() + torch.stack(small).sum()

    def _move(self, divisor: float, lr: float) -> None:
        self.taken += 1
        for name, parameter in self.parameters.items():
            shadow = self.shadow if name == "encoder" else None
            slot = Slot(parameter, self.grads[name], self.first[name], self.second[name], shadow, name == "decoder")
            adam.fast(slot, divisor=divisor, rate=lr, steps=float(self.taken))
        self._screen()

    def _array(self, name: str, shape: tuple[int, ...] | torch.Size, dtype: torch.dtype | None = None) -> Tensor:
        """An array of the batch, kept from step to step."""
        kept = self.rows.get(name)
        if kept is None or len(kept) < shape[0]:
            like = self.parameters["encoder"]
            kept = self.rows[name] = torch.empty(shape, dtype=dtype or like.dtype, device=like.device)
        return kept[: shape[0]]


def _per_row(total: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(the error, the squares of y about the batch's mean), each a row, over all the rows of the batch. total: |error|^2 of
    those here. y stands near 0."""
    flat, n = y.reshape(-1), len(y)
    sizes = torch.stack([total.to(y.dtype), torch.dot(flat, flat)]) / n
    left, squares, mean = group.rows().mean(torch.cat([sizes, y.mean(0)])).split([1, 1, y.shape[1]])
    return left[0], squares[0] - torch.dot(mean, mean)


def fused_topk(wiring: Wiring, rule: Selection, plan: Any) -> FusedTopK | None:
    """The step for `plan` (its clip and matmul), where there is one: TopK, untied, float32 on CPU or GPU, all latents here."""
    encoder = wiring.encoder
    if not isinstance(rule, Select) or wiring.tied or group.latents().size > 1:
        return None
    if encoder.device.type not in DEVICES or encoder.dtype != torch.float32:
        return None
    return FusedTopK(wiring, k=rule.k, clip=plan.clip, matmul=plan.matmul)
