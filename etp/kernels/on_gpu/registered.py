"""Python functions as the kernels of operators that :mod:`etp.kernels` defines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch

from etp.kernels.on_cpu import build
from etp.kernels.on_gpu.triton_source import interpreted

_LIBRARIES: list[torch.library.Library] = []
"""Kept: what a library registers goes when it does."""


def register(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Let functions run operators on CUDA tensors, and on the CPU's where Triton interprets."""
    library = torch.library.Library("etp", "IMPL")
    _LIBRARIES.append(library)
    if interpreted():
        # The compiled ones would come later and take over: they come first, if at all.
        build.at_hand()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="(?s).*verrid")
        for name, function in functions.items():
            library.impl(name, function, "CPU" if interpreted() else "CUDA")
