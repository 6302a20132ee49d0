"""Layers that published models run: the shapes of their convolutions and powers.

Shapes are those of the models' published configurations, as the benchmark problems of
OpenEquivariance (Bharadwaj et al. 2025, arXiv:2501.13986) collect them. One differs from what the
model's own code builds: ``mace-medium`` there keeps 0e+1o+2e, mace-torch 0.3 keeps every degree up
to ``max_ell`` in each interaction, which is ``mace-medium-3o`` here (10 paths, not 8) and what
:data:`MODELS` and :func:`read` use. Those of UMA and eSCN are of fairchem's configurations
``configs/uma/training_release/backbone/K4L2.yaml`` and ``K10L4.yaml``, and
``configs/oc20/s2ef/2M/escn/eSCN-L6-M2-Lay12.yml``: all have mmax 2 and know no parity. Imports
neither torch nor e3nn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar

from etp.irreps import multiplicities, parse_terms
from etp.problem import Direction, Kind, Problem

Mode = Literal["uvu", "uvw", "so2", "power"]
T = TypeVar("T")


@dataclass(frozen=True)
class Layer:
    """One convolution or power of a published model.

    Attributes:
        name: What it is called here.
        nodes: Irreps of the features of nodes.
        edges: Irreps of the spherical harmonics of edges; empty for a power.
        outputs: Irreps that are kept, empty for all.
        mode: ``uvu``: paths are kept apart, each channel by itself. ``uvw``: a linear map over
            channels follows for each path. ``power``: no edges, each node is raised.
        order: Largest number of factors of a power.
    """

    name: str
    nodes: str
    edges: str
    outputs: str
    mode: Mode = "uvu"
    order: int = 1

    def problem(self, kind: Kind = "convolution", **options: Any) -> Problem:
        """The layer as a problem, with weights for each edge.

        Where channels are mixed, ``uvw`` and ``so2``, what it does channel by channel: what mixes
        them and is shared by all edges can follow at the nodes, whatever the product.

        Args:
            kind: ``convolution`` or ``edge``; a power is one whatever is asked.
            **options: Other fields of the problem.
        """
        if self.mode == "power":
            # Weights are those of a node's element.
            options |= {"kind": "power", "order": self.order, "weights": "shared"}
            return Problem.of_irreps(self.nodes, None, self.outputs, **options)
        options = {"weights": "per-sample"} | options
        return Problem.of_irreps(self.nodes, self.edges, self.outputs or None, kind=kind, **options)


def _every(count: int, *irreps: str) -> str:
    return "+".join(f"{count}x{ir}" for ir in irreps)


def _natural(lmax: int) -> list[str]:
    return [f"{l}{'eo'[l % 2]}" for l in range(lmax + 1)]


_ODD_AND_EVEN_2 = ("0o", "0e", "1o", "1e", "2o", "2e")
_AROUND = ("0e", "1o", "2e", "3o")
_EVEN = ("0e", "1e", "2e", "3e")
_DIFFDOCK = "10x1o+10x1e+48x0e+48x0o"

LAYERS = {
    layer.name: layer
    for layer in (
        Layer("mace-medium", _every(128, "0e", "1o"), "0e+1o+2e+3o", "0e+1o+2e"),
        Layer("mace-large", _every(128, "0e", "1o", "2e"), "0e+1o+2e+3o", "0e+1o+2e+3o"),
        Layer("mace-medium-3o", _every(128, "0e", "1o"), "0e+1o+2e+3o", "0e+1o+2e+3o"),
        Layer("mace-first", "128x0e", "0e+1o+2e+3o", "0e+1o+2e+3o"),
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
        Layer("uma-s", _every(128, *_natural(2)), "+".join(_natural(2)), "+".join(_natural(2)),
              "so2"),
        Layer("uma-m", _every(128, *_natural(4)), "+".join(_natural(4)), "+".join(_natural(4)),
              "so2"),
        Layer("escn-l6-m2", _every(128, *_natural(6)), "+".join(_natural(6)),
              "+".join(_natural(6)), "so2"),
        Layer("mace-medium-power", _every(128, *_AROUND), "", "0e+1o", "power", 3),
        Layer("mace-large-power", _every(128, *_AROUND), "", "0e+1o+2e", "power", 3),
        Layer("mace-last-power", _every(128, *_AROUND), "", "0e", "power", 3),
    )
}  # fmt: skip
"""By name."""


@dataclass(frozen=True)
class Model:
    """The convolutions of a published model.

    Attributes:
        name: What it is called here.
        layers: Each convolution and how often it occurs.
        source: Of the layers and their number.
        forward_share: Of a forward that they take with e3nn's products; None where nobody has
            measured it.
        share_source: How that was measured.
    """

    name: str
    layers: tuple[tuple[Layer, int], ...]
    source: str
    forward_share: float | None = None
    share_source: str = ""

    def share_of(self, direction: Direction) -> float | None:
        """Measured share of what is run in a direction: of no training step has it been."""
        return self.forward_share if direction == "forward" else None


_MACE_CONFIG = (
    "github.com/ACEsuit/mace-foundations, mace_mp_0/{}.sh: num_interactions 2, max_ell 3, "
    "num_channels 128, max_L {}"
)
_MACE_SHARE = (
    "forward of mace-torch, 2 interactions of 128x0e+128x1o, order 3, 216 atoms, 6048 edges, "
    "float32, one thread: 30 to 33 %"
)

MODELS = {
    model.name: model
    for model in (
        Model(
            "mace-medium", ((LAYERS["mace-first"], 1), (LAYERS["mace-medium-3o"], 1)),
            _MACE_CONFIG.format("2023-12-03-mace-128-L1", 1), 0.31, _MACE_SHARE,
        ),
        Model(
            "mace-large", ((LAYERS["mace-first"], 1), (LAYERS["mace-large"], 1)),
            _MACE_CONFIG.format("2024-01-07-mace-128-L2", 2),
        ),
        Model("nequix", (
            (LAYERS["nequix-first"], 1), (LAYERS["nequix-main"], 2), (LAYERS["nequix-last"], 1),
        ), "github.com/atomicarchitects/nequix, configs/nequix-mp-1.yml: n_layers 4, 89 elements"),
        Model("sevennet-l3i5", (
            (LAYERS["sevennet-first"], 1), (LAYERS["sevennet-main"], 3),
            (LAYERS["sevennet-last"], 1),
        ), "github.com/MDIL-SNU/SevenNet, sevenn/presets/sevennet-l3i5.yaml: irreps_manual"),
    )
}  # fmt: skip
"""By name."""


def model(name: str) -> Model:
    """A model by its name; case does not matter.

    Raises:
        ValueError: If there is none; lists those that there are.
    """
    return _known("model", MODELS, name)


def _known(field: str, table: Mapping[str, T], name: str) -> T:
    if (known := table.get(name.strip().lower())) is None:
        raise ValueError(f"{field} must be one of {', '.join(table)}, got {name[:40]!r}")
    return known


ENGINES = {
    "symmetrix-xl": "whole MACE models, inference alone (energies, forces, stress): no product to "
    "time, and nothing to train with",
}
"""What people would otherwise pick and cannot stand in the table, and what it is."""


def layer(name: str) -> Layer:
    """A layer by its name; case does not matter.

    Raises:
        ValueError: If there is none; lists those that there are.
    """
    return _known("layer", LAYERS, name)


ADVISED = (
    "e3nn", "cuequivariance", "openequivariance", "cg-sparse", "cg-summed", "vector-signal",
    "gaunt-grid", "gaunt-fourier-fft", "matrix",
)  # fmt: skip
"""Products to choose from for a layer: what people have, what does the same, what reaches as much,
and what gives paths up. The first is what others are compared with."""
ADVISED_POWERS = ("cg", "gaunt-grid", "gaunt-fourier-fft", "matrix", "mace", "cuequivariance")
"""Powers to choose from: the exact one, which others are compared with, what adds up more, and what
people have."""


SO2_LAYERS = ("so2-linear", "so2-linear-2")
"""What layers of eSCN and UMA run, beside them: with all orders, and with those up to 2."""


def advised(kind: Kind, name: str | None = None) -> tuple[str, ...]:
    """Products, or powers, to choose from for a layer of a kind.

    Args:
        kind: Of the problem.
        name: Of the layer, where it is a published one.
    """
    if kind == "power":
        return ADVISED_POWERS
    known = LAYERS.get(name or "")
    return (*ADVISED, *SO2_LAYERS) if known is not None and known.mode == "so2" else ADVISED


_REPR = re.compile(r"\w*TensorProduct\((?P<nodes>.+?) x (?P<edges>.+?) -> (?P<out>.+?)(?:\s*\||\))")


def read(text: str) -> list[Layer]:
    """Layers that a text describes.

    Args:
        text: What ``print`` shows of an e3nn ``TensorProduct``, or the configuration of a MACE
            (``hidden_irreps`` or ``num_channels`` and ``max_L``, ``max_ell``,
            ``num_interactions``), whose layers are those that mace-torch builds, or of a NequIP
            (``num_features``, ``l_max``, ``parity``, ``num_layers``) as a JSON object.

    Raises:
        ValueError: If it is neither, or its irreps fit no layer; says what is missing.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"a layer must be told in {MAX_TEXT} characters, got {len(text)}")
    if (seen := _REPR.search(text)) is not None:
        kept = "+".join(str(ir) for ir in multiplicities(parse_terms(seen["out"], "output")))
        mode: Mode = "uvw" if seen[0].startswith("FullyConnected") else "uvu"
        nodes, edges = seen["nodes"].strip(), seen["edges"].strip()
        return [_checked(Layer("pasted", nodes, edges, kept, mode))]
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise ValueError(
            "paste what print shows of an e3nn TensorProduct, such as TensorProduct(8x0e+8x1o x "
            "1x0e+1x1o -> 16x0e+16x1o | 32 paths | 32 weights), or a configuration as a JSON object"
        )
    mace = {"hidden_irreps", "max_L"} & set(values)
    return [_checked(layer) for layer in (_mace if mace else _nequip)(values)]


MAX_TEXT = 20_000


def _checked(layer: Layer) -> Layer:
    layer.problem("edge")
    return layer


def _mace(values: dict[str, Any]) -> list[Layer]:
    """Convolutions as mace-torch 0.3 builds them: every degree up to max_ell is kept in each."""
    hidden = str(values["hidden_irreps"]) if "hidden_irreps" in values else _hidden(values)
    lmax = _whole(values, "max_ell", 3, 11)
    counts = {str(ir): n for ir, n in multiplicities(parse_terms(hidden, "hidden_irreps")).items()}
    if "0e" not in counts:
        raise ValueError(f"hidden_irreps must have 0e, which says the channels, got {hidden[:40]}")
    around = _natural(lmax)
    # Pseudoscalars among the features let it keep both parities of each degree.
    kept = [f"{l}{p}" for l in range(lmax + 1) for p in "eo"] if "0o" in counts else around
    first = Layer("interaction 1", f"{counts['0e']}x0e", "+".join(around), "+".join(around))
    later = _whole(values, "num_interactions", 2, 20) - 1
    return [
        first,
        *(
            Layer(f"interaction {n + 2}", hidden, "+".join(around), "+".join(kept))
            for n in range(later)
        ),
    ]


def _hidden(values: dict[str, Any]) -> str:
    """Irreps that num_channels and max_L stand for."""
    return _every(
        _whole(values, "num_channels", 128, 4096), *_natural(_whole(values, "max_L", 1, 11, 0))
    )


def _nequip(values: dict[str, Any]) -> list[Layer]:
    if "l_max" not in values or "num_features" not in values:
        raise ValueError(
            "a configuration must have hidden_irreps and max_ell (MACE) or num_features and l_max "
            f"(NequIP), got {', '.join(map(str, list(values)[:6])) or 'nothing'}"
        )
    lmax = _whole(values, "l_max", 1, 11)
    channels = _whole(values, "num_features", 32, 4096)
    around = _natural(lmax)
    both = [f"{l}{p}" for l in range(lmax + 1) for p in "oe"]
    kept = both if values.get("parity", True) else around
    first = Layer("layer 1", f"{channels}x0e", "+".join(around), "+".join(around))
    later = _whole(values, "num_layers", 4, 20) - 1
    nodes = _every(channels, *kept)
    return [
        first,
        *(Layer(f"layer {n + 2}", nodes, "+".join(around), "+".join(kept)) for n in range(later)),
    ]


def _whole(values: dict[str, Any], name: str, usual: int, most: int, least: int = 1) -> int:
    value = values.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(
            f"{name} must be a whole number from {least} to {most}, got {str(value)[:40]}"
        )
    return value


def named(problem: Problem) -> str | None:
    """Name of the layer whose irreps a problem has."""
    return _names().get(_shape(problem))


def models_of(name: str) -> list[Model]:
    """Models that a layer is part of, or that are called as it is."""
    return [
        model
        for model in MODELS.values()
        if name == model.name or name in {layer.name for layer, _ in model.layers}
    ]


def akin(problem: Problem) -> list[Layer]:
    """Layers whose irreps of nodes and edges a problem has, whatever outputs it keeps."""
    of = problem.irreps1, problem.irreps2
    made = ((layer, layer.problem()) for layer in LAYERS.values())
    return [layer for layer, own in made if (own.irreps1, own.irreps2) == of]


def _shape(problem: Problem) -> tuple[object, ...]:
    # Channels of a power are not in its irreps, as those of node features are.
    own = (problem.order, problem.channels) if problem.kind == "power" else ()
    return problem.irreps1, problem.irreps2, problem.filter_out, *own


@cache
def _names() -> dict[tuple[object, ...], str]:
    return {_shape(layer.problem()): layer.name for layer in LAYERS.values()}
