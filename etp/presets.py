"""Layers that published models run: the shapes of their convolutions.

Shapes are those of the models' published configurations, as the benchmark problems of
OpenEquivariance (Bharadwaj et al. 2025, arXiv:2501.13986) collect them. Imports neither torch nor
e3nn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from etp.problem import Kind, Problem

Mode = Literal["uvu", "uvw"]


@dataclass(frozen=True)
class Layer:
    """One convolution of a published model.

    Attributes:
        name: What it is called here.
        nodes: Irreps of the features of nodes.
        edges: Irreps of the spherical harmonics of edges.
        outputs: Irreps that are kept.
        mode: ``uvu``: paths are kept apart, each channel by itself. ``uvw``: a linear map over
            channels follows for each path.
    """

    name: str
    nodes: str
    edges: str
    outputs: str
    mode: Mode = "uvu"

    def problem(self, kind: Kind = "convolution", **options: Any) -> Problem:
        """The layer as a problem, with weights for each edge; of ``uvw`` its edge products."""
        options = {"weights": "per-sample"} | options
        return Problem.of_irreps(self.nodes, self.edges, self.outputs, kind=kind, **options)


def _every(count: int, *irreps: str) -> str:
    return "+".join(f"{count}x{ir}" for ir in irreps)


_ODD_AND_EVEN_2 = ("0o", "0e", "1o", "1e", "2o", "2e")
_AROUND = ("0e", "1o", "2e", "3o")
_EVEN = ("0e", "1e", "2e", "3e")
_DIFFDOCK = "10x1o+10x1e+48x0e+48x0o"

LAYERS = {
    layer.name: layer
    for layer in (
        Layer("mace-medium", _every(128, "0e", "1o"), "0e+1o+2e+3o", "0e+1o+2e"),
        Layer("mace-large", _every(128, "0e", "1o", "2e"), "0e+1o+2e+3o", "0e+1o+2e+3o"),
        Layer("nequip-lips", _every(32, *_ODD_AND_EVEN_2), "0e+1o+2e", "0o+0e+1o+1e+2o+2e"),
        Layer("nequip-aspirin", _every(64, "0o", "0e", "1o", "1e"), "0e+1o", "0o+0e+1o+1e"),
        Layer("nequip-toluene", _every(64, *_ODD_AND_EVEN_2), "0e+1o+2e", "0o+0e+1o+1e+2o+2e"),
        Layer("nequip-benzene", _every(64, "0o", "0e", "1o", "1e", "2o", "2e", "3o", "3e"),
              "0e+1o+2e+3o", "0o+0e+1o+1e+2o+2e+3o+3e"),
        Layer("nequip-water", _every(32, "0o", "0e", "1o", "1e"), "0e+1o", "0o+0e+1o+1e"),
        Layer("nequix-first", "89x0e", "0e+1o+2e+3o", "+".join(_AROUND)),
        Layer("nequix-main", "128x0e+64x1o+32x2e+32x3o", "0e+1o+2e+3o", "+".join(_AROUND)),
        Layer("nequix-last", "128x0e+64x1o+32x2e+32x3o", "0e+1o+2e+3o", "0e"),
        Layer("sevennet-first", "128x0e", "0e+1e+2e+3e", "+".join(_EVEN)),
        Layer("sevennet-main", "128x0e+64x1e+32x2e+32x3e", "0e+1e+2e+3e", "+".join(_EVEN)),
        Layer("sevennet-last", "128x0e+64x1e+32x2e+32x3e", "0e+1e+2e+3e", "0e"),
        Layer("diffdock-l1", _DIFFDOCK, "0e+1o", "0e+0o+1o+1e", "uvw"),
        Layer("diffdock-l2", _DIFFDOCK, "0e+1o+2e", "0e+0o+1o+1e", "uvw"),
        Layer("e3tools", "64x0e+16x1o", "0e+1o", "0e+1o", "uvw"),
    )
}  # fmt: skip
"""By name."""


def layer(name: str) -> Layer:
    """A layer by its name; case does not matter.

    Raises:
        ValueError: If there is none; lists those that there are.
    """
    if (known := LAYERS.get(name.strip().lower())) is None:
        raise ValueError(f"layer must be one of {', '.join(LAYERS)}, got {name[:40]!r}")
    return known


def named(problem: Problem) -> str | None:
    """Name of the layer whose irreps a problem has."""
    about = (problem.irreps1, problem.irreps2, problem.filter_out)
    for each in LAYERS.values():
        own = each.problem()
        if about == (own.irreps1, own.irreps2, own.filter_out):
            return each.name
    return None
