"""Products inside a model, taken over where they stand, and a report of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from torch import nn
from torch.jit import ScriptModule
from typing_extensions import override

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


_COMPILED = "torch._dynamo.eval_frame.OptimizedModule"
"""What ``torch.compile`` makes of a module; to import it takes a second."""


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


def check_heir(module: nn.Module, name: str) -> None:
    """Refuse a module that can do more than the class whose replacement it would get.

    How it is made may differ: what counts is what its class adds to that class, and a ``forward``
    that it was given itself.

    Args:
        module: A module of this class or of one that inherits from it.
        name: The class with its module.

    Raises:
        ValueError: Naming what would be lost.
    """
    added = {"forward"} & vars(module).keys()
    for cls, own in zip(type(module).__mro__, _names(module), strict=True):
        if own == name:
            break
        added |= {member for member, value in vars(cls).items() if hasattr(value, "__get__")}
    if lost := sorted(added - {"__init__"}):
        raise ValueError(
            f"{type(module).__name__} has {', '.join(lost)} of its own, which would be lost"
        )


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
    if _of(_REPLACEMENTS, model) is not None:
        reason = "the model itself: take what etp.from_e3nn gives"
        return Report([ModuleOutcome("", _title(model), "left", reason)])
    walk = _Walk(fuse)
    walk.through(model, "")
    return Report(walk.rows)


class _Walk:
    """The way through a model, each module once.

    Args:
        fuse: Whether convolutions are fused.

    Attributes:
        rows: What became of the modules so far.
    """

    def __init__(self, fuse: bool) -> None:
        self.rows: list[ModuleOutcome] = []
        self._fuse = fuse
        self._done: dict[nn.Module, nn.Module] = {}

    def through(self, parent: nn.Module, prefix: str) -> None:
        """Change what is in a module.

        Args:
            parent: The module.
            prefix: Its path in the model, with a dot behind.
        """
        self._done[parent] = parent  # it may hold itself
        for name, child in list(parent._modules.items()):
            if child is None:
                continue
            if child not in self._done:
                self._done[child] = self._changed(child, f"{prefix}{name}", parent)
            if self._done[child] is not child:
                setattr(parent, name, self._done[child])

    def _changed(self, module: nn.Module, path: str, parent: nn.Module) -> nn.Module:
        change = _of(_REPLACEMENTS, module)
        if change is not None:
            return self._tried(change, module, path, parent, "replaced")
        if (reason := _left(module)) is not None:
            self.rows.append(ModuleOutcome(path, _title(module), "left", reason))
            return module
        self.through(module, f"{path}.")
        fusion = _of(_FUSIONS, module) if self._fuse else None
        return module if fusion is None else self._tried(fusion, module, path, parent, "fused")

    def _tried(
        self, change: Change, module: nn.Module, path: str, parent: nn.Module, became: Became
    ) -> nn.Module:
        what = _title(module)
        try:
            made = change(module)
            if made is not module and (reason := _bound(module, parent)) is not None:
                raise ValueError(reason)
        except ValueError as error:
            self.rows.append(ModuleOutcome(path, what, "left", str(error)))
            return module
        self.rows.append(ModuleOutcome(path, what, became))
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


def _bound(module: nn.Module, parent: nn.Module) -> str | None:
    """Why no other module can take the place of this one."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
             "_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks",
             "_load_state_dict_post_hooks")  # fmt: skip
    if any(getattr(module, kind) for kind in kinds):
        return "it has hooks, which would be lost"
    if _COMPILED in _names(parent):
        return "torch.compile holds it: replace before compiling"
    return None
