"""What a product is given: inputs that fit together, and irreps that say how."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import torch
from torch import Tensor

from etp import irreps as irreps_module
from etp.e3 import o3
from etp.maths.layout import terms


def common_channels(irreps_in1: o3.Irreps, irreps_in2: o3.Irreps) -> int:
    """Multiplicity of every irrep of both inputs.

    Raises:
        ValueError: If multiplicities differ.
    """
    counts = [
        irreps_module.channels(terms(irreps), field)
        for irreps, field in ((irreps_in1, "irreps_in1"), (irreps_in2, "irreps_in2"))
    ]
    if counts[0] != counts[1]:
        raise ValueError(
            "irreps_in1 and irreps_in2 must have the same multiplicity, got "
            f"{counts[0]} and {counts[1]}: channel u of input 1 meets channel u of input 2"
        )
    return counts[0]


def are_rows(x1: Tensor, x2: Tensor, widths: Sequence[int], device: torch.device) -> bool:
    """Whether the inputs are two matrices that fit, and as many rows: the usual call, at a glance.

    What does not pass is looked at again by :func:`check_inputs`.

    Args:
        x1: First input.
        x2: Second input.
        widths: Components of both inputs and the output.
        device: Where the product is.
    """
    if not (isinstance(x1, Tensor) and isinstance(x2, Tensor)):
        return False
    shape1, shape2 = x1.shape, x2.shape
    return (
        len(shape1) == len(shape2) == 2
        and shape1[1] == widths[0]
        and shape2[1] == widths[1]
        and shape1[0] == shape2[0] > 0
        and x1.dtype is x2.dtype
        and x1.dtype.is_floating_point
        and x1.device == device
        and x2.device == device
    )


def check_inputs(
    inputs: Sequence[Tensor],
    irreps: Sequence[o3.Irreps],
    widths: Sequence[int],
    device: torch.device,
) -> None:
    """Refuse features that do not fit; ``widths`` are the dimensions of ``irreps``.

    Args:
        inputs: Both.
        irreps: Theirs.
        widths: Dimensions of ``irreps`` and of the output.
        device: Where the product is.

    Raises:
        ValueError: Saying what must hold.
    """
    for number, x in enumerate(inputs):
        name = f"x{number + 1}"
        check_tensor(name, x)
        if x.ndim == 0 or x.shape[-1] != widths[number]:
            raise ValueError(
                f"{name} must have shape (..., {widths[number]}) for irreps {irreps[number]}, "
                f"got {tuple(x.shape)}"
            )
        if x.device != device:
            raise ValueError(
                f"{name} must be on {device}, where the product is, got {x.device}; "
                f"move the product with .to('{x.device}')"
            )
        if not x.dtype.is_floating_point:
            raise ValueError(f"{name} must have a floating point dtype, got {x.dtype}")
    x1, x2 = inputs
    if x1.dtype != x2.dtype:
        raise ValueError(f"x1 and x2 must have the same dtype, got {x1.dtype} and {x2.dtype}")


def check_tensor(name: str, given: object) -> None:
    """Refuse what is no tensor.

    Args:
        name: What it is called in the error.
        given: Anything.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(given, Tensor):
        raise ValueError(f"{name} must be a torch.Tensor, got {type(given).__name__}")


def check_alike(name: str, given: Tensor, like: Tensor, whose: str) -> None:
    """Refuse another dtype or device than that of what it goes with.

    Args:
        name: What it is called in the error.
        given: Looked at.
        like: What it goes with.
        whose: What that is called: ``"as x is"``.

    Raises:
        ValueError: If one differs.
    """
    if given.dtype != like.dtype or given.device != like.device:
        raise ValueError(
            f"{name} must have dtype {like.dtype} and be on {like.device} {whose}, got "
            f"{given.dtype} on {given.device}"
        )


def has_shape(x: Tensor, *shapes: tuple[int, ...]) -> bool:
    """Whether a tensor has one of these shapes.

    The number of axes is asked first: a comparison of sizes is a condition on a graph that leaves
    them open, and (N, 8) would be compared with (8,).

    Args:
        x: The tensor.
        shapes: What it may have.
    """
    return any(x.ndim == len(shape) and tuple(x.shape) == shape for shape in shapes)


def batch_shape(x1: Tensor, x2: Tensor, weights: Tensor | None) -> torch.Size:
    """Leading axes of the output.

    Args:
        x1: First input.
        x2: Second input.
        weights: Free weights, or None.

    Raises:
        ValueError: If those of the inputs do not broadcast.
    """
    shapes = {"x1": x1.shape[:-1], "x2": x2.shape[:-1]}
    if weights is not None:
        shapes["weights"] = weights.shape[:-1]
    try:
        return torch.broadcast_shapes(*shapes.values())
    except RuntimeError:
        names = " and ".join(shapes)
        got = " and ".join(str(tuple(shape)) for shape in shapes.values())
        raise ValueError(f"{names} must have leading axes that broadcast, got {got}") from None


def nothing(*given: Tensor | None) -> Tensor:
    """Zero that depends on tensors: what a product of no rows adds, with derivatives of any order.

    Args:
        *given: Factors of the product.
    """
    return reduce(torch.mul, [x[:0].sum() for x in given if x is not None])


def promoted(
    x1: Tensor, x2: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """All in the widest of their floating point dtypes, as PyTorch's own operators promote.

    Args:
        x1: First input.
        x2: Second input.
        weights: Free weights, or None.
    """
    given = [x for x in (x1, x2, weights) if isinstance(x, Tensor)]
    if not all(x.dtype.is_floating_point for x in given) or len({x.dtype for x in given}) == 1:
        return x1, x2, weights
    wide = reduce(torch.promote_types, [x.dtype for x in given])
    first, second, *free = (x.to(wide) for x in given)
    return first, second, free[0] if free else None


def as_filter(filter_ir_out: str | o3.Irreps | Iterable[o3.Irrep]) -> set[o3.Irrep]:
    """Irreps to keep, checked.

    Args:
        filter_ir_out: As typed, or one by one.

    Raises:
        IrrepsError: If they are none, or something else.
    """
    if isinstance(filter_ir_out, (str, o3.Irreps)):
        return {ir for _, ir in irreps_module.parse(filter_ir_out, "filter_ir_out")}
    try:
        keep = {o3.Irrep(ir) for ir in filter_ir_out}
    except (TypeError, ValueError):
        keep = set()
    if not keep:
        raise irreps_module.IrrepsError(
            "filter_ir_out",
            f"must name the irreps to keep, as '0e + 1o' or ['0e', '1o'], got {filter_ir_out!r}.",
        )
    return keep
