"""Trainings that go on where they were stopped: their state in a file, the old one or the new."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch


class Kept:
    """A training whose state can be kept in a file.

    Attributes:
        checkpoint: The file, None while none is kept.
    """

    checkpoint: Path | None = None

    def state(self) -> dict[str, Any]:
        """All that :meth:`resume` needs, for :func:`torch.save`; a copy."""
        raise NotImplementedError

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on where another training of the same settings stopped."""
        raise NotImplementedError

    def keep(self, path: Path) -> None:
        """Go on from a checkpoint if it is there, and keep it from now on.

        Raises:
            ValueError: As :meth:`load`.
        """
        self.checkpoint = path
        if path.exists():
            self.load(path)

    def save(self) -> None:
        """Write the checkpoint, if one is kept; a kill leaves the old file or the new one."""
        if self.checkpoint is None:
            return
        part = self.checkpoint.with_name(f"{self.checkpoint.name}.part")
        torch.save(self.state(), part)
        os.replace(part, self.checkpoint)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: If it is of another network, or no checkpoint.
        """
        try:
            self.resume(torch.load(path, weights_only=True))
        except (RuntimeError, KeyError, EOFError, UnpicklingError) as error:
            raise ValueError(f"checkpoint: {path} is not of these settings: {error}") from error
