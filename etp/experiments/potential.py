"""Training a potential on energies and forces, with any product and any power in it.

Under PyTorch's launcher (``torchrun``) every process takes its share of each batch: the steps are
those of one process with the whole batch.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from typing_extensions import override

from etp.experiments.checkpoints import Kept
from etp.experiments.mace import Mace
from etp.experiments.network import gamma
from etp.experiments.settings import PotentialSettings
from etp.experiments.structures import Batch, Structure, batch, split

RATE, WIDE = 0.02, 16
"""Rate of Adam up to that many channels. Each weight moves by the rate whatever the width, so that
what they add up to grows with it: more channels take smaller steps in proportion."""
CLIP = 10.0


class PotentialStep(NamedTuple):
    """One step of training.

    Attributes:
        number: Steps done, from 1.
        loss: Mean square of the energy error over the root of the number of atoms, and of the
            force error, in units of the scale.
        seconds: Time it took.
    """

    number: int
    loss: float
    seconds: float


class Errors(NamedTuple):
    """Mean absolute errors: energy of a molecule in meV, a component of a force in meV/A."""

    energy: float
    force: float


class Validation(NamedTuple):
    """What validation saw after some steps and seconds of training."""

    step: int
    seconds: float
    errors: Errors


class PotentialTraining(Kept):
    """One potential on its way; the same settings, seed and structures give the same steps.

    Args:
        product: Name of the product of every layer.
        settings: What is trained.
        structures: As :func:`etp.experiments.structures.split` takes them.

    Attributes:
        network: The network of the last step.
        best: Its weights where validation was best.
        taken: Steps done.
        checks: What validation saw.

    Raises:
        ValueError: As :class:`etp.experiments.mace.Mace`, or for structures that do not fit.
    """

    def __init__(
        self, product: str, settings: PotentialSettings, structures: Sequence[Structure]
    ) -> None:
        self.product, self.settings, self.parts = product, settings, split(structures)
        self._dtype = getattr(torch, settings.dtype)
        self.network = build(product, settings, self.parts["train"])
        self._rank, self._world = 0, 1
        self._model: nn.Module = self.network
        if distributed.is_available() and distributed.is_initialized():
            self._rank, self._world = distributed.get_rank(), distributed.get_world_size()
            self._model = nn.parallel.DistributedDataParallel(self.network)
        if settings.batch % self._world:
            raise ValueError(
                f"batch must be a multiple of the {self._world} processes, got {settings.batch}"
            )
        self._rate = RATE * min(1.0, WIDE / settings.channels)
        self._adam = torch.optim.Adam(self.network.parameters(), lr=self._rate)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._order: list[int] = []
        self.taken: list[PotentialStep] = []
        self.checks: list[Validation] = []
        self.best: dict[str, Tensor] = copy.deepcopy(self.network.state_dict())

    def steps(self) -> Iterator[PotentialStep]:
        """Take the steps that are left, until they are done or validation gains no more.

        Raises:
            RuntimeError: If the loss is no finite number.
        """
        if len(self.taken) < self.settings.steps and not self.stalled:
            self._warm_up()
        while len(self.taken) < self.settings.steps and not self.stalled:
            self.taken.append(self._step())
            last = len(self.taken) == self.settings.steps
            if last or len(self.taken) % self.settings.check_every == 0:
                self._check()
                self.save()
            yield self.taken[-1]

    def _warm_up(self) -> None:
        """Let kernels be built before time is taken: they are built once for all trainings."""
        size = self.settings.batch // self._world
        self._loss(self._batch(self.parts["train"][:size])).backward()
        self._adam.zero_grad()

    @property
    def stalled(self) -> bool:
        """Whether validation has not gained for as many checks as there is patience."""
        errors = [check.errors.force for check in self.checks]
        return (
            bool(errors) and len(errors) - 1 - errors.index(min(errors)) >= self.settings.patience
        )

    def _next(self) -> Batch:
        """This process's share of the next batch."""
        size, train = self.settings.batch, self.parts["train"]
        while len(self._order) < size:
            self._order += torch.randperm(len(train), generator=self._generator).tolist()
        chosen, self._order = self._order[:size], self._order[size:]
        return self._batch([train[n] for n in chosen[self._rank :: self._world]])

    def _batch(self, structures: Sequence[Structure]) -> Batch:
        own = self.settings
        return batch(structures, self.network.elements, own.cutoff, self._dtype, own.device)

    def _step(self) -> PotentialStep:
        given = self._next()
        done = len(self.taken)
        for group in self._adam.param_groups:
            falling = 0.505 + 0.495 * math.cos(math.pi * done / self.settings.steps)
            group["lr"] = self._rate * falling
        begun = time.perf_counter()
        loss = self._loss(given)
        self._adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self._adam.step()
        # Reading the loss waits for a GPU.
        value = loss.item()
        seconds = time.perf_counter() - begun
        if self._world > 1:
            total = torch.tensor(value, dtype=torch.float64, device=self.settings.device)
            distributed.all_reduce(total)
            value = total.item() / self._world
        if not math.isfinite(value):
            raise RuntimeError(f"the loss is {value} after {done + 1} steps: train in float64")
        return PotentialStep(done + 1, value, seconds)

    def _loss(self, given: Batch) -> Tensor:
        energies, forces = self._model(given.graph, given.elements)
        sizes = given.graph.piece.bincount()
        by_atom = (energies - given.energies) / sizes.sqrt() / self.network.scale
        by_force = (forces - given.forces) / self.network.scale
        return by_atom.square().mean() + by_force.square().mean()

    def _check(self) -> None:
        errors = self.errors("valid")
        best = min((check.errors.force for check in self.checks), default=math.inf)
        seconds = sum(step.seconds for step in self.taken)
        self.checks.append(Validation(len(self.taken), seconds, errors))
        if errors.force < best:
            self.best = copy.deepcopy(self.network.state_dict())

    def errors(self, part: str) -> Errors:
        """Errors of the network on a part of the set."""
        self.network.eval()
        energy, force, count = 0.0, 0.0, 0
        structures = self.parts[part]
        for start in range(0, len(structures), self.settings.batch):
            given = self._batch(structures[start : start + self.settings.batch])
            energies, forces = self.network(given.graph, given.elements)
            energy += (energies - given.energies).abs().sum().item()
            force += (forces - given.forces).double().abs().sum().item()
            count += 3 * len(forces)
        self.network.train()
        return Errors(1e3 * energy / len(structures), 1e3 * force / count)

    @override
    def state(self) -> dict[str, Any]:
        return copy.deepcopy(
            {
                "network": self.network.state_dict(),
                "best": self.best,
                "adam": self._adam.state_dict(),
                "generator": self._generator.get_state(),
                "order": self._order,
                "taken": [tuple(step) for step in self.taken],
                "checks": [(c.step, c.seconds, tuple(c.errors)) for c in self.checks],
            }
        )

    @override
    def resume(self, state: Mapping[str, Any]) -> None:
        state = copy.deepcopy(dict(state))
        self.network.load_state_dict(state["network"])
        self._adam.load_state_dict(state["adam"])
        self._generator.set_state(state["generator"])
        self.best, self._order = state["best"], state["order"]
        self.taken = [PotentialStep(*step) for step in state["taken"]]
        self.checks = [Validation(step, s, Errors(*errors)) for step, s, errors in state["checks"]]

    @override
    def save(self) -> None:
        if self._rank == 0:
            super().save()

    def outcome(self) -> dict[str, Any]:
        """What a row says of the training; errors are those of its best weights."""
        last = copy.deepcopy(self.network.state_dict())
        self.network.load_state_dict(self.best)
        held = {part: self.errors(part) for part in self.parts if part != "train"}
        self.network.load_state_dict(last)
        means = {part: mean_errors(self.parts, part) for part in held}
        return {
            "energy_mev": {part: errors.energy for part, errors in held.items()},
            "force_mev_per_a": {part: errors.force for part, errors in held.items()},
            "mean_energy_mev": {part: errors.energy for part, errors in means.items()},
            "mean_force_mev_per_a": {part: errors.force for part, errors in means.items()},
            "losses": [step.loss for step in self.taken],
            "step_s": statistics.median(step.seconds for step in self.taken),
            "check_steps": [check.step for check in self.checks],
            "check_s": [check.seconds for check in self.checks],
            "check_force_mev_per_a": [check.errors.force for check in self.checks],
            "check_energy_mev": [check.errors.energy for check in self.checks],
            "steps": len(self.taken),
            "stopped_early": self.stalled,
            "layers": self.settings.layers,
            "power": self.settings.power,
            "order": self.settings.order,
            "gamma": gamma(self.product, self.settings.problem()),
            "parameters": sum(p.numel() for p in self.network.parameters()),
        }


def build(product: str, settings: PotentialSettings, train: Sequence[Structure]) -> Mace:
    """The network of a training, with the first weights of its seed.

    Energies of the elements are fitted to the training set, the scale is the size of its forces.

    Raises:
        ValueError: As :class:`etp.experiments.mace.Mace`.
    """
    elements = sorted({int(z) for each in train for z in each.numbers})
    counts = torch.tensor([[int((e.numbers == z).sum()) for z in elements] for e in train]).double()
    energies = torch.tensor([each.energy for each in train], dtype=torch.float64)
    shifts = torch.linalg.lstsq(counts, energies[:, None], driver="gelsd").solution[:, 0]
    given = batch(train, elements, settings.cutoff, torch.float64, "cpu")
    scale = given.forces.square().mean().sqrt().item()
    neighbours = max(1.0, len(given.graph.senders) / len(given.elements))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = Mace(product, settings, elements, shifts, scale, neighbours)
    network = network.to(settings.device, getattr(torch, settings.dtype))
    network.shifts = shifts.to(settings.device)
    return network


def mean_errors(parts: Mapping[str, Sequence[Structure]], part: str) -> Errors:
    """Errors of who answers the mean energy of the training set and no force."""
    train = parts["train"]
    mean = statistics.fmean(each.energy / len(each.numbers) for each in train)
    chosen = parts[part]
    energy = statistics.fmean(abs(each.energy - mean * len(each.numbers)) for each in chosen)
    total = sum(abs(each.forces).sum() for each in chosen)
    return Errors(1e3 * energy, float(1e3 * total / sum(each.forces.size for each in chosen)))
