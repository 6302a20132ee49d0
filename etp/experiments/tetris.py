"""Telling the pieces of Tetris apart: what a network cannot learn because of its product.

Two of the eight pieces are mirror images. A product without odd paths (:math:`l_1 + l_2 + l_3` odd)
commutes with :math:`(-1)^l` on every degree, so that a network of such products answers both alike,
whatever its width and depth. One odd path suffices, from three layers on: an invariant that knows
left from right needs four points, and each layer adds one.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from etp import products
from etp.experiments.checkpoints import Kept
from etp.experiments.network import Network, SpatialGraph, gamma
from etp.experiments.pieces import NAMES, PIECES
from etp.experiments.settings import TetrisSettings
from etp.maths import so3

OUTPUTS = "8x0e+0o"
RATE = 0.01
ORIENTATIONS = 25
"""Random rotations of every piece that accuracy is counted over."""
SAVED_EVERY = 25
"""Steps between checkpoints, where one is kept."""


class TetrisStep(NamedTuple):
    """What one step of training saw.

    Attributes:
        number: Steps done, from 1.
        loss: Cross-entropy over the eight pieces.
        right: Pieces that were named rightly, before the step.
        seconds: Time it took.
    """

    number: int
    loss: float
    right: int
    seconds: float


def centres() -> Tensor:
    """Cubes of all pieces, each about its own centre, float64, (8, 4, 3)."""
    cubes = torch.tensor(list(PIECES.values()), dtype=torch.float64)
    return cubes - cubes.mean(dim=1, keepdim=True)


def graph(positions: Tensor) -> SpatialGraph:
    """Pieces (n, 4, 3) as one graph; cubes that share a face are neighbours."""
    count, size, _ = positions.shape
    near = torch.cdist(positions, positions).sub(1.0).abs() < 0.1
    piece, receivers, senders = near.nonzero().unbind(1)
    return SpatialGraph(
        positions.flatten(0, 1),
        senders + size * piece,
        receivers + size * piece,
        torch.arange(count, device=positions.device).repeat_interleave(size),
        count,
    )


def logits(outputs: Tensor) -> Tensor:
    """Network outputs ``8x0e+0o`` to one number for each piece.

    The pseudoscalar is added for one screw and taken away for the other.
    """
    scalars, pseudoscalar = outputs[:, :8], outputs[:, 8:]
    sign = scalars.new_zeros(8)
    sign[0], sign[1] = 1.0, -1.0
    return scalars + sign * pseudoscalar


class TetrisTraining(Kept):
    """One network on its way; the same settings and seed give the same steps.

    Args:
        product: Name of the product of every layer.
        settings: What is trained.

    Attributes:
        network: The network.
        taken: Steps done.

    Raises:
        ValueError: As :class:`etp.experiments.network.Network`.
    """

    def __init__(self, product: str, settings: TetrisSettings) -> None:
        self.product, self.settings = product, settings
        self.network = build(product, settings)
        self.taken: list[TetrisStep] = []
        self._dtype = getattr(torch, settings.dtype)
        self._pieces = centres()
        self._labels = torch.arange(8, device=settings.device)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._adam = torch.optim.Adam(self.network.parameters(), lr=RATE)

    def steps(self) -> Iterator[TetrisStep]:
        """Take the steps that are left.

        Raises:
            RuntimeError: If the loss is no finite number.
        """
        while len(self.taken) < self.settings.steps:
            step = self._step()
            self.taken.append(step)
            if step.number % SAVED_EVERY == 0 or step.number == self.settings.steps:
                self.save()
            yield step

    def _step(self) -> TetrisStep:
        rotations = so3.random_rotations(8, self._generator)
        turned = (self._pieces @ rotations.mT).to(self.settings.device, self._dtype)
        begun = time.perf_counter()
        scores = logits(self.network(graph(turned)))
        loss = functional.cross_entropy(scores, self._labels)
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        # Reading the loss waits for a GPU.
        value = loss.item()
        seconds = time.perf_counter() - begun
        number = len(self.taken) + 1
        if not torch.isfinite(loss):
            raise RuntimeError(f"the loss is {value} after {number} steps: train in float64")
        return TetrisStep(number, value, int((scores.argmax(1) == self._labels).sum()), seconds)

    @override
    def state(self) -> dict[str, Any]:
        return {
            "network": copy.deepcopy(self.network.state_dict()),
            "adam": copy.deepcopy(self._adam.state_dict()),
            "generator": self._generator.get_state(),
            "taken": [tuple(step) for step in self.taken],
        }

    @override
    def resume(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        # The optimiser would go on to change the tensors that it was given.
        self._adam.load_state_dict(copy.deepcopy(state["adam"]))
        self._generator.set_state(state["generator"])
        self.taken = [TetrisStep(*step) for step in state["taken"]]

    def outcome(self) -> dict[str, Any]:
        """What a row says of the training."""
        counts, screw = confusion(self.network), chirality(self.network)
        return {
            "accuracy": int(counts.diagonal().sum()) / int(counts.sum()),
            "confusion": counts.tolist(),
            "pieces": list(NAMES),
            "losses": [step.loss for step in self.taken],
            "right": [step.right for step in self.taken],
            "step_s": statistics.median(step.seconds for step in self.taken),
            "steps": len(self.taken),
            "layers": self.settings.layers,
            "parameters": sum(p.numel() for p in self.network.parameters() if p.requires_grad),
            "gamma": gamma(self.product, self.settings.problem()),
            "equivariance": equivariance_error(self.network, self.product),
            "mirror_gap": screw.mirror_gap,
            "pseudoscalar": screw.pseudoscalar,
            "start_pseudoscalar": chirality(build(self.product, self.settings)).pseudoscalar,
            "seen": screw.piece,
            "seen_mirrored": screw.mirror,
        }


def build(product: str, settings: TetrisSettings) -> Network:
    """The network of a training, with the first weights of its seed.

    Raises:
        ValueError: As :class:`etp.experiments.network.Network`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = Network(
            product, OUTPUTS, layers=settings.layers, channels=settings.channels,
            lmax=settings.lmax, weights=settings.weights,
            neighbours=1.5,
        )  # fmt: skip
    return network.to(settings.device, getattr(torch, settings.dtype))


class Chirality(NamedTuple):
    """How a network tells a screw from its mirror image, in float64.

    Attributes:
        mirror_gap: Largest difference of a logit between the two, over the largest logit.
        pseudoscalar: Largest pseudoscalar output over the largest scalar.
        piece: Probability of each name, for the left screw.
        mirror: The same for its mirror image.
    """

    mirror_gap: float
    pseudoscalar: float
    piece: list[float]
    mirror: list[float]


@torch.no_grad()
def chirality(network: Network) -> Chirality:
    """Ask a network about the left screw and its mirror image."""
    screw = centres()[:1]
    outputs = _exact(network)(graph(torch.cat([screw, screw * screw.new_tensor([1, 1, -1])])))
    scores = logits(outputs)
    gap = _over(scores[0] - scores[1], scores)
    size = _over(outputs[:, 8], outputs[:, :8])
    first, second = scores.softmax(1).tolist()
    return Chirality(gap, size, first, second)


@torch.no_grad()
def equivariance_error(
    network: Network, product: str, *, elements: int = 8, seed: int = 0
) -> float:
    """Largest relative change of a network's output where there should be none, in float64.

    All pieces are rotated and, for products of O(3), half of the time inverted too: scalars stay,
    the pseudoscalar changes its sign under inversion.
    """
    exact, pieces = _exact(network), centres()
    wanted = exact(graph(pieces))
    parity = wanted.new_ones(9)
    parity[8] = -1.0
    worst = 0.0
    inverts = products.get(product).group == "O(3)"
    for number, rotation in enumerate(
        so3.random_rotations(elements, torch.Generator().manual_seed(seed))
    ):
        inverted = inverts and number % 2 == 1
        turned = pieces @ rotation.T * (-1.0 if inverted else 1.0)
        error = exact(graph(turned)) - wanted * (parity if inverted else 1.0)
        worst = max(worst, _over(error, wanted))
    return worst


@torch.no_grad()
def confusion(network: Network, *, orientations: int = ORIENTATIONS, seed: int = 1) -> Tensor:
    """How often each piece (row) was called each name (column), in float64, (8, 8) counts."""
    exact, counts = _exact(network), torch.zeros(8, 8, dtype=torch.int64)
    rotations = so3.random_rotations(8 * orientations, torch.Generator().manual_seed(seed))
    for turns in rotations.unflatten(0, (orientations, 8)):
        called = logits(exact(graph(centres() @ turns.mT))).argmax(1)
        counts[torch.arange(8), called] += 1
    return counts


def _over(part: Tensor, whole: Tensor) -> float:
    """Largest number of one over that of the other; what is nothing is no part of anything."""
    largest = part.abs().max().item()
    return largest / whole.abs().max().item() if largest else 0.0


def _exact(network: Network) -> Network:
    """The network in float64 on the CPU, so that a tie is a tie."""
    return copy.deepcopy(network).to("cpu", torch.float64)
