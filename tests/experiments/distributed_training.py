"""Three steps of a small training, printed as JSON; run by PyTorch's launcher or alone."""

from __future__ import annotations

import json

from etp.experiments import potential, structures
from etp.experiments.launch import joined
from etp.experiments.settings import PotentialSettings


def report() -> str | None:
    """Losses and checks, from the first of the processes."""
    settings = PotentialSettings(
        channels=2, steps=3, batch=4, layers=1, dtype="float64", check_every=2
    )
    with joined("cpu") as (rank, _):
        training = potential.PotentialTraining("cg-sparse", settings, structures.bundled()[:20])
        losses = [step.loss for step in training.steps()]
        return json.dumps({"losses": losses, "checks": training.checks}) if rank == 0 else None


if __name__ == "__main__":
    if (said := report()) is not None:
        print(said)
