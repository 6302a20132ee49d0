"""What PyTorch does around a call: transforms, tracers and modes that change what tensors are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes


@contextmanager
def real_tensors() -> Iterator[None]:
    """Make constants that any later call can use: real ones on the CPU, without history.

    Whatever is in force outside: a default device, inference mode, a tracer that makes fake
    tensors, a transform that wraps them, a trace that writes down what is called.
    """
    trace = torch._C._get_tracing_state()
    torch._C._set_tracing_state(None)  # type: ignore[attr-defined]
    try:
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            _on_cpu(),
            torch._C._DisableFuncTorch(),
            _disable_current_modes(),
        ):
            yield
    finally:
        torch._C._set_tracing_state(trace)  # type: ignore[attr-defined]


def _on_cpu() -> AbstractContextManager[Any]:
    """The CPU as the default device; where it is that, nothing, for a mode slows every call."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


def module_seen(module: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A module that another library made, with its constants as the modes in force want them."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() == 0:
        return module
    if not isinstance(module, nn.Module):
        return module
    own = {**dict(module.named_buffers()), **dict(module.named_parameters())}
    return partial(_called_with, module, {name: seen(constant) for name, constant in own.items()})


def _called_with(module: nn.Module, constants: dict[str, Tensor], *inputs: Tensor) -> Tensor:
    z: Tensor = torch.func.functional_call(module, constants, inputs)
    return z


def plain_only() -> bool:
    """Whether a call asks for what only plain PyTorch operators can give.

    These are transforms of ``torch.func``, forward-mode derivatives, and graphs that are exported
    or traced by ``torch.jit``, which run where this package is not.
    """
    return (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch.compiler.is_exporting()
        or (not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None)
    )


def traced() -> bool:
    """Whether a compiler, a tracer or a transform must meet operators rather than shortcuts."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._are_functorch_transforms_active()
    )


def autocasting(device: str) -> bool:
    """Whether autocast may be in force for a type of device."""
    if torch.compiler.is_compiling():
        return torch.is_autocast_enabled(device)
    return torch._C._is_any_autocast_enabled()


def seen(constant: Tensor) -> Tensor:
    """A constant as the modes in force want it: among fake tensors a fake one."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() == 0:
        return constant
    kinds = torch._C._TorchDispatchModeKey
    fake = torch._C._get_dispatch_mode(kinds.FAKE)
    if fake is None or torch._C._get_dispatch_mode(kinds.PROXY) is not None:
        return constant
    made: Tensor = fake.from_tensor(constant)
    return made
