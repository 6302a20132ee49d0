"""Products that run as one kernel on a GPU, and in Triton's interpreter."""

from __future__ import annotations

from abc import abstractmethod
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from typing_extensions import override

from etp.kernels.modes import plain_only
from etp.kernels.multilinear import PRODUCT, Form, evaluate, intern
from etp.kernels.on_gpu.triton_source import serves
from etp.product.base import TensorProduct

_KEYS: WeakKeyDictionary[Fused, dict[torch.device, str | None]] = WeakKeyDictionary()


class Fused(TensorProduct):
    """A product whose kernel reads and writes features as they lie; with weights the plain form."""

    @abstractmethod
    def fused_form(self) -> Form | None:
        """The form that the kernel evaluates; None if it would not fit the product's device."""

    @torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
    def fused_key(self) -> str | None:
        """Key of :meth:`fused_form`, interned."""
        # Not kept in the product: its copies and pickles may be used where the form is not known.
        keys = _KEYS.setdefault(self, {})
        if self.device not in keys:
            form = self.fused_form()
            keys[self.device] = None if form is None else intern(form)
        return keys[self.device]

    @override
    def multiply_channels(self, x1: Tensor, x2: Tensor, weights: Tensor | None = None) -> Tensor:
        served = weights is None and serves(x1.device.type) and not plain_only()
        if served and (key := self.fused_key()) is not None:
            return evaluate(key, PRODUCT, [x1, x2])[0]
        return super().multiply_channels(x1, x2, weights)
