"""Tensor products of e3nn, computed here: same call, same numbers, same names in ``state_dict``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from etp.e3 import o3
from etp.interop._parts import Channelwise, RowSizes, parts_of, steps_of
from etp.interop.replace import check_heir, replacement_for
from etp.kernels.modes import real_tensors

E3NN_PRODUCT = f"{o3.TensorProduct.__module__}.{o3.TensorProduct.__qualname__}"
"""Class of e3nn's products, with its module."""


class ConvertedProduct(o3.TensorProduct):  # type: ignore[misc]
    """What :func:`from_e3nn` gives: an ``e3nn.o3.TensorProduct`` that runs in the kernels of etp.

    Attributes, weights and buffers are those of the product that it stands for, its constants
    among them, which are kept for ``state_dict`` only.
    """

    def __init__(self, theirs: o3.TensorProduct) -> None:
        nn.Module.__init__(self)
        for name, value in theirs.__dict__.items():
            if not name.startswith("_") or name in _THEIR_FIELDS:
                setattr(self, name, value)
        self._name = type(theirs).__name__
        for name, parameter in theirs.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name, buffer in theirs.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        for name, child in theirs.named_children():
            self.add_module(name, _Constants(child))
        sizes = RowSizes(
            self.irreps_in1.dim, self.irreps_in2.dim, self.irreps_out.dim, self.weight_numel
        )
        with real_tensors():
            self.parts = nn.ModuleList(parts_of(steps_of(theirs), sizes))
        self.parts.to(theirs.output_mask.device)
        # A plain number: the compiler cannot guard e3nn's irreps.
        self._out_dim = sizes.out
        self.train(theirs.training)

    @override
    def forward(
        self,
        x: Tensor,
        y: Tensor,
        weight: Tensor | list[Tensor] | None = None,
        edge_index: Tensor | None = None,
    ) -> Tensor:
        """Multiply (..., irreps_in1.dim) and (..., irreps_in2.dim), leading axes broadcast.

        Args:
            x: First input.
            y: Second input.
            weight: (weight_numel,) where weights are shared, else (..., weight_numel); may be
                left out where the product has its own.
            edge_index: Senders and receivers, (2, E): where given, :meth:`convolve`.

        Returns:
            Shape (..., irreps_out.dim).

        Raises:
            ValueError: If an input is no tensor, or its last axis does not fit.
        """
        if edge_index is not None:
            return self.convolve(x, y, weight, edge_index[0], edge_index[1])
        for name, given, dim in (("x", x, self._in1_dim), ("y", y, self._in2_dim)):
            if not isinstance(given, Tensor):
                raise ValueError(f"{name} must be a torch.Tensor, got {type(given).__name__}")
            if given.ndim == 0 or given.shape[-1] != dim:
                raise ValueError(f"{name} must have shape (..., {dim}), got {tuple(given.shape)}")
        w = self._get_weights(weight) if self.weight_numel else None
        own = () if w is None else w.shape[:-1]
        batch = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1], own)
        rows = self._multiplied(_rows(x, batch), _rows(y, batch), self._weight_rows(w, batch))
        return rows.reshape(*batch, self._out_dim)

    @override
    def right(self, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """The linear map of input 1 that ``y`` makes: (..., irreps_in1.dim, irreps_out.dim)."""
        each = weight
        if weight is not None and not self.shared_weights:
            each = weight.unsqueeze(-2)
        eye = torch.eye(self._in1_dim, dtype=y.dtype, device=y.device)
        return self(eye, y.unsqueeze(-2), each)

    def convolve(
        self,
        x: Tensor,
        y: Tensor,
        weight: Tensor | list[Tensor] | None,
        senders: Tensor,
        receivers: Tensor,
    ) -> Tensor:
        """Sum over edges e with receiver n of ``self(x[senders[e]], y[e], weight[e])``.

        Without an array of messages where the product is one of mode ``uvu`` alone.

        Args:
            x: Features of nodes, (N, irreps_in1.dim).
            y: Shape (E, irreps_in2.dim).
            weight: As in :meth:`forward`, for edges.
            senders: Node that each edge reads, (E,).
            receivers: Node that each edge is added to, (E,).

        Returns:
            Shape (N, irreps_out.dim).
        """
        only = self.parts[0] if len(self.parts) == 1 else None
        if isinstance(only, Channelwise) and only.whole:
            w = self._get_weights(weight) if self.weight_numel else None
            own = self._weight_rows(w, y.shape[:-1])
            return only.convolve(x, y, own, senders, receivers, x.shape[0])
        messages = self(x.index_select(0, senders), y, weight)
        out = messages.new_zeros(x.shape[0], messages.shape[1])
        return out.index_add(0, receivers, messages)

    def _multiplied(self, x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        z = None
        for part in self.parts:
            own = part(x, y, w)
            z = own if z is None else z + own
        return x.new_zeros(x.shape[0], self._out_dim) if z is None else z

    def _weight_rows(self, w: Tensor | None, batch: torch.Size) -> Tensor | None:
        if w is None or w.numel() == self.weight_numel:
            return None if w is None else w.reshape(-1)
        return _rows(w, batch)

    @override
    def __repr__(self) -> str:
        theirs = super().__repr__()
        return f"etp.{self._name}{theirs[len(type(self).__name__) :]}"


_THEIR_FIELDS = ("_in1_dim", "_in2_dim", "_did_compile_right", "_profiling_str",
                 "_specialized_code", "_optimize_einsums")  # fmt: skip


class _Constants(nn.Module):
    """Buffers of a module and of what is in it, without what they are for."""

    def __init__(self, theirs: nn.Module) -> None:
        super().__init__()
        for name, buffer in theirs.named_buffers(recurse=False):
            self.register_buffer(name, buffer.detach().clone())
        for name, child in theirs.named_children():
            self.add_module(name, _Constants(child))


def _rows(x: Tensor, batch: torch.Size) -> Tensor:
    if x.ndim == 2 and x.shape[:-1] == batch:
        return x
    return x.expand(*batch, x.shape[-1]).reshape(-1, x.shape[-1])


def from_e3nn(tensor_product: Any) -> ConvertedProduct:
    """Make a product that computes what a tensor product of e3nn computes.

    Same call, same numbers and gradients, same ``state_dict``; weights are the same parameters, so
    that an optimizer that holds them goes on. Coefficients are exact in every precision, where
    e3nn rounds them to the default dtype in which it was made.

    Args:
        tensor_product: An ``e3nn.o3.TensorProduct`` of modes ``uuu``, ``uvu``, ``uvuv`` and
            ``uvw``, with any instructions, normalisation and kind of weights.

    Raises:
        TypeError: If it is no ``e3nn.o3.TensorProduct``.
        ValueError: If an instruction has another mode, or its class methods that e3nn's has not;
            the message names them.
    """
    if isinstance(tensor_product, ConvertedProduct):
        return tensor_product
    if not isinstance(tensor_product, o3.TensorProduct):
        raise TypeError(
            "from_e3nn: tensor_product must be an e3nn.o3.TensorProduct, got "
            f"{type(tensor_product).__name__}"
        )
    try:
        check_heir(tensor_product, E3NN_PRODUCT)
    except ValueError as error:
        raise ValueError(f"from_e3nn: {error}") from None
    return ConvertedProduct(tensor_product)


@replacement_for(E3NN_PRODUCT)
def _product(module: nn.Module) -> nn.Module:
    return from_e3nn(module)
