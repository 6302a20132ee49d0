"""Products inside a model, taken over where they stand, and a report of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from torch import nn
from torch.jit import ScriptModule
from typing_extensions import override

from etp.e3 import o3
from etp.interop.tensor_product import from_e3nn

Became = Literal["replaced", "fused", "left"]
Change = Callable[[nn.Module], nn.Module]


class ModuleOutcome(NamedTuple):
    """What became of a module.

    Attributes:
        path: Its name in the model.
        what: What it was.
        became: ``replaced`` by a product that computes the same, ``fused`` with the sum over edges
            around it, or ``left`` as it was.
        reason: Why it was left; else empty.
    """

    path: str
    what: str
    became: Became
    reason: str = ""


class Report(tuple[ModuleOutcome, ...]):
    """A row for each module that was looked at, in the order of the model; prints as a table."""

    __slots__ = ()

    def of(self, became: Became) -> list[str]:
        """Paths of the modules that became this."""
        return [row.path for row in self if row.became == became]

    @override
    def __str__(self) -> str:
        if not self:
            return "no product that etp knows is in this model"
        table = [("module", "what", "became", "reason"), *self]
        widths = [max(len(row[column]) for row in table) for column in range(3)]
        lines = (
            "  ".join([*(f"{c:{w}}" for c, w in zip(row, widths, strict=False)), row[3]]).rstrip()
            for row in table
        )
        return "\n".join(lines)


_REPLACEMENTS: dict[str, Change] = {}
_FUSIONS: dict[str, Change] = {}
_LEFT = {
    "e3nn.o3._linear.": "a linear map, which PyTorch computes as matrix products",
    "cuequivariance_torch.": "runs in kernels of cuequivariance",
    "openequivariance.": "runs in kernels of openequivariance",
}


def replacement_for(name: str) -> Callable[[Change], Change]:
    """Register what makes the replacement of a class and of what inherits from it.

    Args:
        name: The class with its module, ``package.module.Class``, which need not be importable.
            What is registered raises ValueError where it cannot serve a module.
    """
    return _registering(_REPLACEMENTS, name)


def fusion_for(name: str) -> Callable[[Change], Change]:
    """Register what joins a product inside a class with the sum over edges around it.

    It is called once the products inside are replaced; arguments as :func:`replacement_for`.
    """
    return _registering(_FUSIONS, name)


def _registering(registry: dict[str, Change], name: str) -> Callable[[Change], Change]:
    def add(change: Change) -> Change:
        registry[name] = change
        return change

    return add


@replacement_for(f"{o3.TensorProduct.__module__}.{o3.TensorProduct.__qualname__}")
def _tensor_product(module: nn.Module) -> nn.Module:
    return from_e3nn(module)


def replace_in(model: nn.Module, *, fuse: bool = True) -> Report:
    """Take over every product inside a model that etp can compute, in place.

    These are tensor products of e3nn and the symmetric contractions of MACE. The model computes
    what it did; parameters stay the same objects, and ``state_dict`` has the same names and shapes.

    Args:
        model: Any module; of several that share a product all get the same one.
        fuse: Whether convolutions of MACE and NequIP are computed without an array of messages.

    Returns:
        What became of each module, and why; print it.

    Raises:
        TypeError: If ``model`` is no module.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"replace_in: model must be a torch.nn.Module, got {type(model).__name__}")
    rows: list[ModuleOutcome] = []
    if _of(_REPLACEMENTS, model) is not None:
        reason = "the model itself: take what etp.from_e3nn gives"
        return Report([ModuleOutcome("", _title(model), "left", reason)])
    _walk(model, "", fuse, {}, rows)
    return Report(rows)


def _walk(
    parent: nn.Module,
    prefix: str,
    fuse: bool,
    done: dict[nn.Module, nn.Module],
    rows: list[ModuleOutcome],
) -> None:
    for name, child in list(parent._modules.items()):
        if child is None:
            continue
        path = f"{prefix}{name}"
        if child not in done:
            done[child] = _changed(child, path, fuse, done, rows)
        if done[child] is not child:
            setattr(parent, name, done[child])


def _changed(
    module: nn.Module,
    path: str,
    fuse: bool,
    done: dict[nn.Module, nn.Module],
    rows: list[ModuleOutcome],
) -> nn.Module:
    change = _of(_REPLACEMENTS, module)
    if change is not None:
        return _tried(change, module, path, "replaced", rows)
    if (reason := _left(module)) is not None:
        rows.append(ModuleOutcome(path, _title(module), "left", reason))
        return module
    _walk(module, f"{path}.", fuse, done, rows)
    fusion = _of(_FUSIONS, module) if fuse else None
    return module if fusion is None else _tried(fusion, module, path, "fused", rows)


def _tried(
    change: Change, module: nn.Module, path: str, became: Became, rows: list[ModuleOutcome]
) -> nn.Module:
    what = _title(module)
    try:
        if _hooked(module):
            raise ValueError("it has hooks, which would be lost")
        made = change(module)
    except ValueError as reason:
        rows.append(ModuleOutcome(path, what, "left", str(reason)))
        return module
    rows.append(ModuleOutcome(path, what, became))
    return made


def _of(registry: dict[str, Change], module: nn.Module) -> Change | None:
    return next((registry[name] for name in _names(module) if name in registry), None)


def _left(module: nn.Module) -> str | None:
    if isinstance(module, ScriptModule):
        return "compiled by TorchScript: replace before compiling"
    starts = (reason for name in _names(module) for start, reason in _LEFT.items()
              if name.startswith(start))  # fmt: skip
    return next(starts, None)


def _names(module: nn.Module) -> Iterator[str]:
    for cls in type(module).__mro__:
        yield f"{cls.__module__}.{cls.__qualname__}"


def _title(module: nn.Module) -> str:
    return f"{type(module).__module__.split('.')[0]} {type(module).__name__}"


def _hooked(module: nn.Module) -> bool:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, kind) for kind in kinds)
