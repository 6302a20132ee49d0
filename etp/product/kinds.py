"""Which kind of product the inputs' multiplicities ask for: one of pairs or one of edges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import override

from etp import irreps as irreps_module
from etp.e3 import o3
from etp.irreps import LAYOUTS, Layout
from etp.kernels.tables import BuiltForReal
from etp.maths.layout import terms

T = TypeVar("T", bound=type)
EDGES: dict[str, Any] = {}
"""Classes of edge products by how they run; each is entered by :func:`edge_form`."""


def edge_form(name: str) -> Callable[[T], T]:
    """Class decorator: an algorithm's edge products may run like this.

    Args:
        name: ``groups`` or ``table``.
    """

    def entered(cls: T) -> T:
        EDGES[name] = cls
        return cls

    return entered


class Kinds(BuiltForReal):
    """Type of the classes of products: calling one gives the kind that the inputs ask for."""

    @override
    def __call__(self, *args: Any, **options: Any) -> Any:
        """Construct a pair product as the class describes it, or its edge product."""
        return of_kind(self, super().__call__, *args, **options)


def of_kind(
    cls: Any,
    construct: Callable[..., Any],
    irreps_in1: str | o3.Irreps,
    irreps_in2: str | o3.Irreps,
    *,
    layout: Layout = "mul_ir",
    **options: Any,
) -> Any:
    """Construct the product of a class that the multiplicities of the inputs ask for.

    Args:
        cls: Class of the algorithm.
        construct: What constructs its pair product.
        irreps_in1: First input.
        irreps_in2: Second input.
        layout: Order within the blocks of input 1 and the output: ``mul_ir`` (copy, component) as
            in e3nn, or ``ir_mul`` (component, copy), in which channels are contiguous.
        options: Others of the class.

    Raises:
        ValueError: If the layout is unknown, or a pair product would need another one.
        IrrepsError: If the multiplicities fit no kind.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}, got {layout!r}")
    first = irreps_module.parse(irreps_in1, "irreps_in1")
    second = irreps_module.parse(irreps_in2, "irreps_in2")
    if irreps_module.meeting(terms(first), terms(second)) == "edge":
        # Not its own __call__, which is this function.
        return BuiltForReal.__call__(cls.edge_class(), cls, first, second, layout, options)
    if layout != "mul_ir" and any(mul > 1 for mul, _ in first):
        raise ValueError(
            f"layout must be 'mul_ir' for a pair product of several channels, got {layout!r}: "
            "give input 2 one channel (an edge product), or reorder the features"
        )
    return construct(irreps_in1, irreps_in2, **options)
