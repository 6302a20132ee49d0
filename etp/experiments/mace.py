"""A network in the style of MACE: products over neighbours, then powers of what they add up to.

After Batatia et al. 2022 (arXiv:2206.07697): a radial network weighs each edge, a convolution
collects neighbours, a power of order up to 3 makes many-body features, energies are read from
scalars. Both the product and the power are replaceable.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor, nn
from typing_extensions import override

from etp import powers, products
from etp.e3 import o3
from etp.experiments.network import SCALAR, Linear, SpatialGraph
from etp.experiments.settings import PotentialSettings
from etp.product.convolution import Convolution

RADIAL, HIDDEN = 8, 32
START = 0.2
"""Size of the first weights of powers: cubes of what a node collects are large."""


class Radial(nn.Module):
    """Distances to the weights of an edge, and an envelope that ends smoothly at the cutoff."""

    def __init__(self, cutoff: float, outputs: int) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.network = nn.Sequential(
            nn.Linear(RADIAL, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(),
            nn.Linear(HIDDEN, outputs),
        )  # fmt: skip
        for layer in self.network:
            if isinstance(layer, nn.Linear):
                # Unit variance through and through: stiff bonds ask for weights that vary.
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)

    @override
    def forward(self, distances: Tensor) -> Tensor:
        """Distances (E,) to weights (E, outputs), around 1."""
        orders = torch.arange(1, RADIAL + 1, dtype=distances.dtype, device=distances.device)
        r = distances[:, None]
        waves = 2**0.5 * torch.sin(orders * pi * r / self.cutoff)
        weights: Tensor = 1.0 + self.network(waves)
        return weights

    def envelope(self, distances: Tensor) -> Tensor:
        """1 at 0 and 0 at the cutoff, two derivatives included (polynomial of order 6)."""
        u = distances / self.cutoff
        return 1 - 28 * u**6 + 48 * u**7 - 21 * u**8


class Interaction(nn.Module):
    """One layer: weigh edges, convolve, raise to a power, add what the node had.

    Args:
        product: Name of the product.
        settings: Sizes, and the name of the power.
        irreps_in: What nodes hold before.
        keep: Irreps that nodes hold after.
        elements: Number of elements.
        neighbours: Typical number of edges that a node receives.
    """

    def __init__(
        self,
        product: str,
        settings: PotentialSettings,
        irreps_in: o3.Irreps,
        keep: Sequence[o3.Irrep],
        elements: int,
        neighbours: float,
    ) -> None:
        super().__init__()
        count = settings.channels
        edge = o3.Irreps.spherical_harmonics(settings.lmax)
        tp = products.get(product)(irreps_in, edge, filter_ir_out=edge)
        self.conv = Convolution(tp)
        self.radial = Radial(settings.cutoff, tp.weight_numel)
        collected = o3.Irreps([(count, ir) for _, ir in edge if ir in tp.irreps_out])
        self.irreps_out = o3.Irreps([(count, ir) for ir in keep])
        self.up = Linear(irreps_in, irreps_in)
        self.down = Linear(tp.irreps_out, collected)
        self.power = powers.get(settings.power)(
            collected, order=settings.order, irreps_out=self.irreps_out
        )
        self.mix = Linear(self.irreps_out, self.irreps_out)
        self.own = Linear(irreps_in, self.irreps_out)
        self.scale = neighbours**-0.5
        sizes = [block.size**-0.5 for block in self.power.blocks for _ in range(block.size)]
        spread = torch.tensor(sizes).repeat_interleave(count)
        first = START * spread * torch.randn(elements, self.power.weight_numel)
        self.weights = nn.Parameter(first)

    @override
    def forward(
        self, x: Tensor, y: Tensor, distances: Tensor, graph: SpatialGraph, elements: Tensor
    ) -> Tensor:
        """Features (N, irreps_in.dim) and harmonics (E, dim) to (N, irreps_out.dim)."""
        weights = self.radial(distances)
        y = y * self.radial.envelope(distances)[:, None]
        z = self.conv(self.up(x), y, weights, graph.senders, graph.receivers, len(x))
        raised = self.power(self.scale * self.down(z), self.weights, elements)
        return self.own(x) + self.mix(raised)


class Mace(nn.Module):
    """Energies and forces of molecules.

    Args:
        product: Name of the product of every layer.
        settings: Sizes, and the name of the power.
        elements: Atomic numbers.
        shifts: Energy of an atom of each element, eV.
        scale: Size of what is learned, eV.
        neighbours: Typical number of edges that a node receives.

    Raises:
        ValueError: If a product or power is unknown, or cannot reach what the other reads.
    """

    def __init__(
        self,
        product: str,
        settings: PotentialSettings,
        elements: Sequence[int],
        shifts: Tensor,
        scale: float,
        neighbours: float,
    ) -> None:
        super().__init__()
        self.elements, self.scale = tuple(elements), scale
        self.irreps_edge = o3.Irreps.spherical_harmonics(settings.lmax)
        self.register_buffer("shifts", shifts.double())
        irreps = o3.Irreps([(settings.channels, SCALAR)])
        self.start = nn.Parameter(torch.randn(len(elements), settings.channels))
        self.layers, self.reads = nn.ModuleList(), nn.ModuleList()
        nodes = [o3.Irrep(l, (-1) ** l) for l in range(settings.node_lmax + 1)]
        for number in range(settings.layers):
            last = number == settings.layers - 1
            keep = nodes[:1] if last else nodes
            layer = Interaction(product, settings, irreps, keep, len(elements), neighbours)
            self.layers.append(layer)
            irreps = layer.irreps_out
            self.reads.append(_reader(settings.channels, deep=last))

    def energies(self, graph: SpatialGraph, elements: Tensor) -> Tensor:
        """Energy of each piece in eV, float64, (pieces,)."""
        edges = graph.positions[graph.senders] - graph.positions[graph.receivers]
        distances = edges.norm(dim=1)
        y = o3.spherical_harmonics(self.irreps_edge, edges, True, "component")
        x = self.start[elements]
        sites = x.new_zeros(len(x))
        for layer, read in zip(self.layers, self.reads, strict=True):
            x = layer(x, y, distances, graph, elements)
            sites = sites + read(x[:, : self.start.shape[1]])[:, 0]
        # Totals are large beside what is learned: they are added up in float64.
        each = self.scale * sites.double() + self.get_buffer("shifts")[elements]
        return each.new_zeros(graph.pieces).index_add(0, graph.piece, each)

    @override
    def forward(self, graph: SpatialGraph, elements: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (pieces,) in eV and forces (N, 3) in eV/angstrom."""
        with torch.enable_grad():
            positions = graph.positions.detach().requires_grad_()
            energies = self.energies(graph._replace(positions=positions), elements)
            (slopes,) = torch.autograd.grad(energies.sum(), positions, create_graph=self.training)
        if not self.training:
            energies = energies.detach()
        return energies, -slopes


def _reader(channels: int, *, deep: bool) -> nn.Module:
    if not deep:
        return nn.Linear(channels, 1, bias=False)
    return nn.Sequential(
        nn.Linear(channels, 16, bias=False), nn.SiLU(), nn.Linear(16, 1, bias=False)
    )
