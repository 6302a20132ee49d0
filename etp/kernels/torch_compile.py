"""Products and powers under ``torch.compile``: any one's name with ``+compile`` behind it.

In a program of one's own the same is ``product.compile()``, as for any module.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from etp.kernels import compile_times as compiling
from etp.problem import Direction

if TYPE_CHECKING:
    from torch import nn

M = TypeVar("M", bound="nn.Module")

SUFFIX = "+compile"
GRAPHS = 64
"""Graphs that one function may have: each precision and kind of batch of each product has one, and
beyond its limit ``torch.compile`` would quietly run the plain form."""


def plain_name(name: str) -> str:
    """Name of the product itself."""
    return name.removesuffix(SUFFIX)


def asked(name: str) -> bool:
    """Whether a name stands for a compiled product."""
    return name.endswith(SUFFIX)


def why_not(direction: Direction) -> str | None:
    """Why a compiled product cannot be called in a direction; None if it can."""
    if direction != "double-backward":
        return None
    # PyTorch's aot_autograd compiles one backward pass and raises where that is differentiated.
    return (
        "torch.compile has no second derivatives: choose forward or forward + backward, or leave "
        f"{SUFFIX} out"
    )


def apply(tp: M) -> M:
    """Compile the calls of a product or a power, and count what that takes."""
    import torch._dynamo.config as limits
    import torch._inductor.config as inductor

    limits.recompile_limit = max(limits.recompile_limit, GRAPHS)
    # What was kept on disk would make the compiler look faster than it is for a new user.
    inductor.force_disable_caches = True
    _listen()
    # Parts that cannot be compiled would run as they are, and the name would say too much.
    tp.compile(fullgraph=True)
    return tp


def forget() -> None:
    """Drop all graphs, so that a product compiled before is compiled again when it is asked for."""
    import torch

    torch.compiler.reset()


_begun: list[float] = []


def _listen() -> None:
    """Hear of every compilation from now on; those inside another are counted with it."""
    from torch._dynamo.callback import callback_handler

    # Dropping all graphs drops the listeners too.
    if _started not in callback_handler.start_callbacks:
        callback_handler.register_start_callback(_started)
        callback_handler.register_end_callback(_ended)


def _started(_: object) -> None:
    _begun.append(time.perf_counter())


def _ended(_: object) -> None:
    compiling.made("torch.compile", time.perf_counter() - _begun.pop())
