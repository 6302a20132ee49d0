"""What an experiment is about, each choice declared once; no torch, for pages and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, Self, get_args

from typing_extensions import override

from etp.options import check_options, flag, option
from etp.problem import Problem

LearnedWeights = Literal["none", "shared", "balanced"]
Precision = Literal["float32", "float64"]
TETRIS_EDGES = 50
"""Pairs of neighbouring cubes in all eight pieces, in both directions."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What experiments share: settings of a kind, the problem that they pose, and their case.

    Raises:
        ValueError: Naming the field of any bad value.
    """

    kind: ClassVar[str]
    steps: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self)
        self.problem()

    def problem(self) -> Problem:
        """The product of an inner layer."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read settings as stored in a case; raises ``ValueError`` for what is not known."""
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise ValueError(f"settings have no field {unknown[0]!r}; known: {', '.join(known)}")
        return cls(**values)

    def words(self) -> str:
        """Options of the command line that differ from the usual ones, the seed left out."""
        return " ".join(
            f"{flag(field.name)} {getattr(self, field.name)}"
            for field in fields(self)
            if field.name != "seed" and getattr(self, field.name) != field.default
        )

    def case(self, products: Sequence[str]) -> dict[str, Any]:
        """Case that trains a network with each of these products."""
        return {
            "kind": self.kind,
            "problem": self.problem().as_dict(),
            "products": list(products),
            "settings": asdict(self),
        }


@dataclass(frozen=True, kw_only=True)
class TetrisSettings(Experiment):
    """A training on the eight pieces of Tetris; see :mod:`etp.experiments.tetris`."""

    kind = "tetris"

    layers: int = option(
        3, "Layers", low=1, high=6, help="Products one after the other: three see a whole piece."
    )
    channels: int = option(
        8, "Channels", low=1, high=256, help="Copies of each irrep that a node holds."
    )
    lmax: int = option(2, "lmax", low=1, high=6, help="Largest degree of nodes and edges.")
    steps: int = option(
        100, "Steps", low=1, high=100_000, help="Steps of Adam; each sees every piece once."
    )
    weights: LearnedWeights = option(
        "none",
        "Product weights",
        choices=get_args(LearnedWeights),
        words={"none": "no weights", "shared": "learned weights", "balanced": "balanced weights"},
        help="Free weights of the product itself. Balanced: fixed ones that bring all paths as "
        "near to one size as they can.",
    )
    dtype: Precision = option("float32", "Number type", choices=get_args(Precision))
    device: str = option("cpu", "Device", help="cpu or cuda:N.")
    threads: int = option(
        1, "CPU threads", low=1, high=1024, help="One is fastest for networks this small."
    )
    seed: int = option(0, "Seed", high=2**31 - 1, help="Of the first weights and the rotations.")

    @override
    def problem(self) -> Problem:
        """The product of an inner layer: both parities of each degree meet the harmonics."""
        nodes = "+".join(f"{l}{p}" for l in range(self.lmax + 1) for p in "eo")
        edges = "+".join(f"{l}{'eo'[l % 2]}" for l in range(self.lmax + 1))
        return Problem.of_irreps(
            nodes, edges, nodes, channels=self.channels, batch=TETRIS_EDGES, dtype=self.dtype,
            direction="backward", weights=self.weights, device=self.device, threads=self.threads,
            seed=self.seed,
        )  # fmt: skip


POWERS = (
    "cg", "gaunt-grid", "gaunt-grid-fft", "gaunt-fourier-fft", "gaunt-fourier-direct", "matrix",
)  # fmt: skip
"""Powers of :mod:`etp.powers`."""
ATOMS, PAIRS = 27, 500
"""Of the bundled molecule: atoms, and pairs within the usual cutoff in both directions, roughly."""


@dataclass(frozen=True, kw_only=True)
class PotentialSettings(Experiment):
    """A training on energies and forces; see :mod:`etp.experiments.potential`."""

    kind = "potential"

    layers: int = option(2, "Layers", low=1, high=6)
    channels: int = option(16, "Channels", low=1, high=1024, help="Copies of each irrep.")
    lmax: int = option(2, "lmax", low=1, high=6, help="Largest degree of edges and powers.")
    node_lmax: int = option(1, "lmax of nodes", low=0, high=6, help="Between layers.")
    order: int = option(3, "Order", low=1, high=4, help="Largest power of what a node collects.")
    power: str = option("cg", "Power", choices=POWERS, help="How it is computed.")
    cutoff_pm: int = option(
        450, "Cutoff / pm", low=100, high=2000, help="Atoms nearer than this are neighbours."
    )
    steps: int = option(300, "Steps", low=1, high=10_000_000, help="Steps of Adam.")
    batch: int = option(8, "Batch", low=1, high=10_000, help="Structures in a step.")
    check_every: int = option(50, "Check every", low=1, high=100_000, help="Steps.")
    patience: int = option(
        10, "Patience", low=1, high=10_000, help="Checks without gain before it stops early."
    )
    dtype: Precision = option("float32", "Number type", choices=get_args(Precision))
    device: str = option("cpu", "Device", help="cpu or cuda:N.")
    threads: int | None = option(
        None, "CPU threads", low=1, high=1024, empty="all", help="Empty: all cores."
    )
    seed: int = option(0, "Seed", high=2**31 - 1, help="Of the first weights and the order.")

    @property
    def cutoff(self) -> float:
        """In angstrom."""
        return self.cutoff_pm / 100

    @override
    def problem(self) -> Problem:
        """The product of an inner layer: natural parities, a weight for each edge."""
        nodes, edges = (
            "+".join(f"{l}{'eo'[l % 2]}" for l in range(top + 1))
            for top in (self.node_lmax, self.lmax)
        )
        return Problem.of_irreps(
            nodes, edges, edges, channels=self.channels, batch=self.batch * PAIRS,
            dtype=self.dtype, direction="double-backward", weights="per-sample",
            device=self.device, threads=self.threads, seed=self.seed,
        )  # fmt: skip
