"""Trainings on several processes, started by PyTorch's own launcher.

``torchrun --nproc-per-node 2 -m etp experiment potential ...`` runs the same command in each of
them; gloo joins CPUs, NCCL joins GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def joined(device: str) -> Iterator[tuple[int, str]]:
    """Join the other processes of the launcher, if there is one; yield the rank and the device.

    Args:
        device: ``cpu``, or ``cuda`` for the GPU of this process.
    """
    if "WORLD_SIZE" not in os.environ:
        yield 0, device
        return
    import torch
    from torch import distributed

    cuda = device.startswith("cuda")
    if cuda:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield distributed.get_rank(), device
    finally:
        distributed.destroy_process_group()
