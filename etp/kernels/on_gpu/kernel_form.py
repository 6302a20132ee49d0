"""Forms that Triton kernels evaluate: compile once for an evaluation, launch, and cast."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

from torch import Tensor
from typing_extensions import override

from etp.kernels.multilinear import Evaluation, Form
from etp.kernels.on_gpu.triton_source import Source, accumulator, compiled, on_device_of


class Launch(NamedTuple):
    """How the kernels of one evaluation are launched.

    Attributes:
        block: Rows of a program.
        options: Further constants of the kernels, and what Triton asks for.
        tables: Tensors that they read besides inputs and outputs.
    """

    block: int
    options: dict[str, Any]
    tables: tuple[Tensor, ...] = ()


class KernelForm(Form):
    """A form with kernels written for it, run one after the other; a row is a channel of a sample.

    Args:
        key: As for every form.
        widths: As for every form.
        channels: Number of channels C.
    """

    def __init__(self, key: str, widths: tuple[int, ...], channels: int) -> None:
        super().__init__(key, widths)
        self.channels = channels
        self._kernels: dict[Evaluation, list[Any]] = {}

    @abstractmethod
    def sources(self, evaluation: Evaluation) -> list[Source]:
        """Kernels of one evaluation, each of which adds to what the ones before it wrote."""

    @abstractmethod
    def launch(self, evaluation: Evaluation, like: Tensor) -> Launch:
        """How they are launched on inputs like this one."""

    @override
    def run(self, evaluation: Evaluation, inputs: Sequence[Tensor]) -> list[Tensor]:
        if evaluation not in self._kernels:
            self._kernels[evaluation] = [compiled(part) for part in self.sources(evaluation)]
        kernels = self._kernels[evaluation]
        samples, dtype = len(inputs[0]), inputs[0].dtype
        wide, acc = accumulator(dtype)
        # Partial sums are kept wide.
        held = dtype if len(kernels) == 1 else wide
        outputs = [
            inputs[0].new_empty(samples, self.widths[out.side], dtype=held)
            for out in evaluation.outputs
        ]
        rows, strides = samples * self.channels, [x.stride(0) for x in inputs]
        block, options, tables = self.launch(evaluation, inputs[0])
        with on_device_of(inputs[0]):
            for kernel in kernels:
                kernel[(ceil(rows / block),)](
                    *(*inputs, *strides, *outputs, *tables, rows), BLOCK=block, ACC=acc, **options
                )
        return [out.to(dtype) for out in outputs]
