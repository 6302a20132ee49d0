"""The programs that products are put into: each asks a question and holds the answer to another's.

A program is a function of a :class:`Case`. It returns where every number was right, raises
:class:`WrongError` where one was not, and lets the product's own refusal through.
"""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.parallel import DistributedDataParallel

from etp.powers.base import Power
from tests.life import reference
from tests.life.reference import Answers, Kind, Question, differs

SIZE, OTHER = 7, 5
"""Samples, edges or nodes that a graph is made with, and those that it then meets."""
FREE = 11
"""The same for ``torch.compile``: a size of no table, which it would take for the same one."""


class WrongError(AssertionError):
    """A number is not what it should be."""


class Case:
    """A product of one kind with answers that are worked out once.

    Args:
        kind: What is asked of the product.
        name: Of the product or the power.
        backend: Of ``torch.compile`` where a program compiles.
    """

    def __init__(self, kind: Kind, name: str, backend: str = "aot_eager") -> None:
        self.kind, self.name, self.backend = kind, name, backend

    def ask(
        self, size: int = SIZE, product: nn.Module | None = None, weights: str = "per-sample"
    ) -> Question:
        """A question to a new product, which no other program has called, or to this one."""
        made = product or reference.make(self.kind, self.name)
        return reference.again(self.kind, made, weights, size)

    @cached_property
    def output(self) -> Tensor:
        """What the product gives."""
        return reference.output(self.ask())

    @cached_property
    def gradients(self) -> Answers:
        """Finite differences of the energy."""
        return reference.gradients(self.ask())

    @cached_property
    def tangent(self) -> Tensor:
        """Finite differences along the tangents."""
        return reference.tangent(self.ask())

    @cached_property
    def forces(self) -> Answers:
        """Finite differences of a loss of forces, at the other size."""
        return reference.forces(self.ask(OTHER))

    @cached_property
    def elsewhere(self) -> tuple[Tensor, Answers]:
        """Output and gradients at the other size."""
        question = self.ask(OTHER)
        return reference.output(question), reference.gradients(question)


def hold(found: Answers | Tensor, wanted: Answers | Tensor) -> None:
    """Raise :class:`WrongError` unless two answers agree."""
    if (reason := differs(found, wanted)) is not None:
        raise WrongError(reason)


def slopes(question: Question, function: Callable[..., Tensor]) -> dict[str, Tensor]:
    """Gradients by backward passes of something that should be this product."""
    inputs = question.fresh()
    question.energy_of(function, *inputs).backward()
    return _grads(question, inputs)


def loss_of_forces(question: Question, *inputs: Tensor) -> Tensor:
    """A number made of the energy's derivative by the first input."""
    (force,) = torch.autograd.grad(question.energy(*inputs), inputs[0], create_graph=True)
    return (force * question.tangents()[0]).sum()


def eager(case: Case) -> None:
    """Output, gradients, and gradients of a loss of forces."""
    question = case.ask()
    hold(question(*question.inputs), case.output)
    hold(slopes(question, question.product), case.gradients)
    other = case.ask(OTHER, question.product)
    inputs = other.fresh()
    loss_of_forces(other, *inputs).backward()
    hold(_grads(other, inputs), case.forces)


def at_other_size(case: Case, product: Callable[..., Tensor], *, derived: bool = True) -> None:
    """Hold a graph to the answers at the size that it was not made with."""
    other = case.ask(OTHER)
    output, gradients = case.elsewhere
    with torch.no_grad():
        hold(product(*other.inputs, *other.index), output)
    if derived:
        hold(slopes(other, product), gradients)


@contextmanager
def compiler() -> Iterator[None]:
    """PyTorch's compiler with nothing of it kept on disk, and without what it kept before."""
    import torch._functorch.config as functorch
    import torch._inductor.config as inductor

    torch.compiler.reset()
    with (
        torch.enable_grad(),
        inductor.patch(force_disable_caches=True),
        functorch.patch(enable_autograd_cache=False),
    ):
        yield
    torch.compiler.reset()


def compiled(case: Case) -> None:
    """``torch.compile(fullgraph=True, dynamic=True)``, at a second size without a new graph."""
    import torch._dynamo.config as dynamo

    question = case.ask(FREE)
    with compiler():
        made = torch.compile(question.product, fullgraph=True, dynamic=True, backend=case.backend)
        hold(slopes(question, made), reference.gradients(question))
        with torch.no_grad():
            hold(made(*question.inputs, *question.index), reference.output(question))
        with dynamo.patch(error_on_recompile=True):
            at_other_size(case, made)


def with_inductor(case: Case) -> None:
    """The same with PyTorch's own code generator."""
    compiled(Case(case.kind, case.name, "inductor"))


def compiled_forces(case: Case) -> None:
    """Gradients by weights of a loss of forces: the graph is traced, then compiled."""
    question, other = case.ask(), case.ask(OTHER)
    with compiler():
        graph = _graph_of_forces(question)
        made = torch.compile(graph, fullgraph=True, dynamic=True, backend=case.backend)
        for size, asked in ((SIZE, question), (OTHER, other)):
            wanted = case.forces if size == OTHER else reference.forces(asked)
            hold(_from_forces(made, asked), wanted)


def traced_forces(case: Case) -> None:
    """``make_fx`` over energy and forces; gradients of a loss of forces flow through the graph."""
    hold(_from_forces(_graph_of_forces(case.ask()), case.ask(OTHER)), case.forces)


def _graph_of_forces(question: Question) -> Callable[..., Any]:
    def forces(weight: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        energy = (question.product(*given) * weight).sum()
        return energy, torch.autograd.grad(energy, given[0], create_graph=True)[0]

    made: Callable[..., Any] = make_fx(
        forces, tracing_mode="symbolic", _allow_non_fake_inputs=True
    )(_weight(question), *question.fresh(), *question.index)
    return made


def _from_forces(graph: Callable[..., Any], question: Question) -> dict[str, Tensor]:
    inputs = question.fresh()
    force = graph(_weight(question), *inputs, *question.index)[1]
    (force * question.tangents()[0]).sum().backward()
    return _grads(question, inputs)


def _grads(question: Question, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    found = zip(question.names, inputs, strict=True)
    return {name: torch.zeros_like(x) if x.grad is None else x.grad for name, x in found}


def _weight(question: Question) -> Tensor:
    z = reference.output(question)
    return reference.direction(z.shape, question.seed - 1)


def _moving(question: Question) -> tuple[Any, ...]:
    """Which axes of the inputs have any size: samples, edges, or nodes of a power."""
    rows = {0: torch.export.Dim.AUTO}
    if isinstance(question.product, Power):
        return rows, None, rows
    first = None if isinstance(question.product, reference.Convolved) else rows
    return (first, *[rows] * (len(question.inputs) - 1 + len(question.index)))


def _exported(question: Question) -> torch.export.ExportedProgram:
    given = (*question.inputs, *question.index)
    moving: Any = _moving(question)
    if isinstance(question.product, reference.Convolved):
        moving = (*moving[:2], tuple(moving[2:]))  # all that follows is one argument
    return torch.export.export(question.product, given, dynamic_shapes=moving)


def exported(case: Case) -> None:
    """``torch.export`` with samples of any number, twice, and without weights; then used itself."""
    question = case.ask()
    for _ in range(2):
        program = _exported(question)
        own = [node.target for node in program.graph.nodes if "etp." in str(node.target)]
        if own:
            raise WrongError(f"the graph holds {own[0]}, which is not where this package is not")
        at_other_size(case, program.module())
    hold(question(*question.inputs), case.output)
    hold(slopes(question, question.product), case.gradients)
    _exports_right(case, "none", torch.export.ExportedProgram.module)


def packaged(case: Case) -> None:
    """AOTInductor: to a file, loaded, another number of samples, with and without weights."""
    for weights in ("per-sample", "none"):
        _exports_right(case, weights, _loaded)


def _loaded(program: torch.export.ExportedProgram) -> Callable[..., Tensor]:
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    with compiler(), tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "product.pt2")
        aoti_compile_and_package(program, package_path=path)
        made: Callable[..., Tensor] = aoti_load_package(path)
        return made


def _exports_right(
    case: Case, weights: str, made: Callable[[torch.export.ExportedProgram], Callable[..., Tensor]]
) -> None:
    """Hold what is made of an exported program to the product, at the other size."""
    if case.kind == "power" and weights == "none":
        return  # a power has them always
    question = case.ask(weights=weights)
    other = case.ask(OTHER, weights=weights)
    with torch.no_grad():
        exported = made(_exported(question))
        hold(exported(*other.inputs, *other.index), reference.output(other))


def scripted(case: Case) -> None:
    """``torch.jit.script``."""
    torch.jit.script(case.ask().product)


def traced(case: Case) -> None:
    """``torch.jit.trace``, saved and loaded; met with another number of samples."""
    question = case.ask()
    made = torch.jit.trace(question.product, (*question.inputs, *question.index))
    with tempfile.TemporaryDirectory() as folder:
        made.save(str(Path(folder) / "product.pt"))
        loaded = torch.jit.load(str(Path(folder) / "product.pt"))
    if "etp::" in str(loaded.inlined_graph):
        raise WrongError("the file holds an operator which is not where this package is not")
    at_other_size(case, loaded)


def gradient(case: Case) -> None:
    """``torch.func.grad``."""
    question = case.ask()
    places = tuple(range(len(question.inputs)))
    made = grad(question.energy, argnums=places)(*question.inputs)
    hold(dict(zip(question.names, made, strict=True)), case.gradients)


def pulled_back(case: Case) -> None:
    """``torch.func.vjp``."""
    question = case.ask()
    z, back = vjp(question, *question.inputs)  # type: ignore[misc]
    hold(z, case.output)
    made = back(_weight(question))
    hold(dict(zip(question.names, made, strict=True)), case.gradients)


def pushed_forward(case: Case) -> None:
    """``torch.func.jvp``."""
    question = case.ask()
    z, change = jvp(question, question.inputs, question.tangents())  # type: ignore[misc]
    hold(z, case.output)
    hold(change, case.tangent)


def dual(case: Case) -> None:
    """Dual tensors of ``torch.autograd.forward_ad``."""
    question = case.ask()
    with forward_ad.dual_level():
        pairs = zip(question.inputs, question.tangents(), strict=True)
        made = question(*(forward_ad.make_dual(x, t) for x, t in pairs))
        change = forward_ad.unpack_dual(made).tangent
    if change is None:
        raise WrongError("the tangent is lost")
    hold(change, case.tangent)


def compiled_tangent(case: Case) -> None:
    """``torch.compile`` of ``torch.func.jvp``, and ``jvp`` of a compiled product."""
    question = case.ask()
    given = question.inputs, question.tangents()
    with compiler():
        made = torch.compile(
            lambda x, t: jvp(question, x, t)[1], backend=case.backend, fullgraph=True
        )
        hold(made(*given), case.tangent)
    question = case.ask()
    with compiler():
        question.product.compile(backend=case.backend)
        hold(jvp(question, *given)[1], case.tangent)
        question.product.compile(backend=case.backend)
    dual(case)


def _rows_of(question: Question, jacobian: Callable[..., Any]) -> dict[str, Tensor]:
    """Gradients of the energy from a Jacobian of the output by every input."""
    places = tuple(range(len(question.inputs)))
    parts = jacobian(question, argnums=places)(*question.inputs)
    weight = _weight(question)
    return {
        name: torch.tensordot(weight, part, dims=2)
        for name, part in zip(question.names, parts, strict=True)
    }


def jacobian_backward(case: Case) -> None:
    """``torch.func.jacrev``."""
    hold(_rows_of(case.ask(), jacrev), case.gradients)


def jacobian_forward(case: Case) -> None:
    """``torch.func.jacfwd``."""
    hold(_rows_of(case.ask(), jacfwd), case.gradients)


def compiled_jacobian(case: Case) -> None:
    """``torch.compile`` of ``torch.func.jacfwd``."""
    question = case.ask()
    weight = _weight(question)

    def energy(*inputs: Tensor) -> Tensor:
        return (question.product(*inputs, *question.index) * weight).sum()

    with compiler():
        made = torch.compile(lambda *x: jacfwd(energy)(*x), backend=case.backend)
        hold({"x1": made(*question.inputs)}, {"x1": case.gradients["x1"]})


def second_derivatives(case: Case) -> None:
    """``torch.func.hessian``, contracted with the tangent of the first input."""
    question = case.ask(OTHER)
    places = tuple(range(len(question.inputs)))
    (parts, *_) = hessian(question.energy, argnums=places)(*question.inputs)
    first = question.tangents()[0]
    found = {
        name: torch.tensordot(first, part, dims=2)
        for name, part in zip(question.names, parts, strict=True)
    }
    hold(found, case.forces)


def mapped(case: Case) -> None:
    """``torch.func.vmap`` over samples; over copies of a graph or of all nodes."""
    question = case.ask()
    if case.kind in ("pair", "edge"):
        hold(vmap(question)(*question.inputs), case.output)
        return
    more = tuple(torch.stack([x, x + t]) for x, t in
                 zip(question.inputs, question.tangents(), strict=True))  # fmt: skip
    wanted = torch.stack([question(*(x[n] for x in more)) for n in range(2)])
    hold(vmap(question)(*more), wanted)


def autocast(case: Case) -> None:
    """Features of bfloat16 with float32 harmonics and weights: promoted, as e3nn's own are."""
    question = case.ask()
    first, *rest = question.inputs
    given = (first.bfloat16(), *(x.float() for x in rest))
    with torch.autocast("cpu", torch.bfloat16):
        z = question(*given)
    if z.dtype != torch.float32:
        raise WrongError(f"the output has dtype {z.dtype} instead of torch.float32")
    wanted = reference.output(replace(question, inputs=tuple(x.double() for x in given)))
    error = float((z.double() - wanted).norm() / wanted.norm())
    if not error < 1e-5:
        raise WrongError(f"output is wrong by {error:.1e} in float32")


def after_inference(case: Case) -> None:
    """A first call in inference mode, as a trainer's sanity check makes it; then training."""
    question = case.ask()
    with torch.inference_mode():
        hold(
            question(
                *(x.clone() for x in question.inputs),
            ),
            case.output,
        )
    hold(slopes(question, question.product), case.gradients)


def built_in_inference(case: Case) -> None:
    """Built in inference mode, then trained."""
    with torch.inference_mode():
        product = reference.make(case.kind, case.name)
    question = case.ask(product=product)
    hold(slopes(question, question.product), case.gradients)


def meta(case: Case) -> None:
    """Built on and called on the meta device, moved by ``to_empty``; fake tensors in between."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with torch.device("meta"):
        product = reference.make(case.kind, case.name)
    question = case.ask(product=product.to_empty(device="cpu"))
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        given = [mode.from_tensor(x) for x in (*question.inputs, *question.index)]
        shape = question.product(*given).shape
    if shape != case.output.shape:
        raise WrongError(f"a fake output has shape {tuple(shape)}")
    hold(slopes(question, question.product), case.gradients)
    away = question.product.to("meta")
    z = away(*(x.to("meta") for x in (*question.inputs, *question.index)))
    if (z.device.type, z.shape) != ("meta", case.output.shape):
        raise WrongError(f"on the meta device the output is on {z.device}, {tuple(z.shape)}")
    back = away.to_empty(device="cpu")
    hold(slopes(replace(question, product=back), back), case.gradients)


def copied(case: Case) -> None:
    """``copy.deepcopy`` of a product that was called, and the product after it."""
    question = case.ask()
    question(*question.inputs)
    other = copy.deepcopy(question.product)
    for product in (other, question.product):
        hold(slopes(question, product), case.gradients)


def pickled(case: Case) -> None:
    """``pickle``, and ``torch.save`` of the whole module."""
    question = case.ask()
    question(*question.inputs)
    hold(slopes(question, pickle.loads(pickle.dumps(question.product))), case.gradients)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(question.product, path := str(Path(folder) / "product.pt"))
        hold(slopes(question, torch.load(path, weights_only=False)), case.gradients)


def in_threads(case: Case) -> None:
    """Two threads that make the first call at the same time."""
    question, wrong = case.ask(), []
    _ = case.gradients
    together = threading.Barrier(2)

    def work() -> None:
        together.wait()
        try:
            for _ in range(3):
                hold(slopes(question, question.product), case.gradients)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def changed_in_place(case: Case) -> None:
    """An input is changed after the call: PyTorch's error, or the right gradient."""
    question = case.ask()
    inputs = question.fresh()
    used = [x.clone() for x in inputs]
    energy = question.energy(*used)
    with torch.no_grad():
        for x in used:
            x.add_(1)
    try:
        energy.backward()
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        return
    hold(_grads(question, inputs), case.gradients)


def forked(case: Case) -> None:
    """A process that was forked after the first call."""
    question = case.ask()
    hold(slopes(question, question.product), case.gradients)
    _in_child(partial(_hold_slopes, case, question))


def _hold_slopes(case: Case, question: Question) -> None:
    hold(slopes(question, question.product), case.gradients)


class _Model(nn.Module):
    """Weights, which are trained, and a product."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.product = question.product
        self.weights = nn.Parameter(question.inputs[-1].clone())

    def forward(self, *given: Tensor) -> Tensor:
        """All inputs but the weights."""
        count = 1 if isinstance(self.product, Power) else 2
        z: Tensor = self.product(*given[:count], self.weights, *given[count:])
        return z


def distributed(case: Case) -> None:
    """``DistributedDataParallel`` over two processes: the mean of their gradients."""
    with tempfile.TemporaryDirectory() as folder:
        words = (case.kind, case.name, str(Path(folder) / "store"))
        code = "import sys; from tests.life.programs import train; train(*sys.argv[1:])"
        ranks = [
            subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", code, *words, str(rank)],
                cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True,
            )
            for rank in range(2)
        ]  # fmt: skip
        for rank in ranks:
            said = rank.communicate(timeout=600)[1]
            if rank.returncode:
                raise WrongError(said[-2000:])


def train(kind: Kind, name: str, store: str, rank: str) -> None:
    """One of two processes that train together, on losses of which one is thrice the other.

    Args:
        kind: What is asked of the product.
        name: Of the product or the power.
        store: File through which the two find each other.
        rank: 0 or 1.
    """
    import torch.distributed as dist

    case = Case(kind, name)
    question = case.ask()
    found = dist.FileStore(store, 2)  # type: ignore[attr-defined]
    dist.init_process_group(
        "gloo", store=found, rank=int(rank), world_size=2, timeout=timedelta(minutes=5)
    )
    model = DistributedDataParallel(_Model(question))
    z = model(*question.inputs[:-1], *question.index)
    ((1, 3)[int(rank)] * z * _weight(question)).sum().backward()
    last = question.names[-1]
    hold({last: model.module.weights.grad}, {last: 2 * case.gradients[last]})
    dist.destroy_process_group()


def _in_child(task: Callable[[], None]) -> None:
    """Run a task in a process forked from this one."""
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        if (child := os.fork()) == 0:
            try:
                task()
                os._exit(0)
            except BaseException:
                said.write_text(traceback.format_exc(limit=-3))
                os._exit(1)
        if status := os.waitpid(child, 0)[1]:
            raise WrongError(said.read_text() if said.exists() else f"a child ended by {status}")


PROGRAMS: dict[str, Callable[[Case], None]] = {
    "eager": eager,
    "torch.compile": compiled,
    "Inductor": with_inductor,
    "compiled forces": compiled_forces,
    "make_fx forces": traced_forces,
    "export": exported,
    "AOTInductor": packaged,
    "jit.trace": traced,
    "jit.script": scripted,
    "grad": gradient,
    "vjp": pulled_back,
    "vmap": mapped,
    "jacrev": jacobian_backward,
    "jvp": pushed_forward,
    "dual": dual,
    "jacfwd": jacobian_forward,
    "hessian": second_derivatives,
    "compiled jvp": compiled_tangent,
    "compiled jacfwd": compiled_jacobian,
    "autocast": autocast,
    "inference_mode": after_inference,
    "built in inference_mode": built_in_inference,
    "meta": meta,
    "changed in place": changed_in_place,
    "deepcopy": copied,
    "pickle": pickled,
    "threads": in_threads,
    "fork": forked,
    "DDP": distributed,
}
"""By the name of the row."""
COMPILED = ("torch.compile", "Inductor", "AOTInductor", "compiled forces", "compiled jvp",
            "compiled jacfwd")  # fmt: skip
PROCESSES = ("fork", "DDP")
"""Programs of several processes."""
