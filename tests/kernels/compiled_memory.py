"""Run by test_compiled.py: every form that is launched fits the shared memory of every card."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest
import torch
import triton.language as tl

from benchmarks.predicted import CARDS, PAGE, Card, natural
from etp import presets, products
from etp.kernels.multilinear import PRODUCT, Evaluation, Form
from etp.kernels.on_gpu import triton_grid
from etp.kernels.on_gpu.grid_source import shared_bytes
from etp.kernels.on_gpu.row_form import RowForm
from etp.kernels.on_gpu.triton_grid import (
    ROWS,
    SECOND,
    TERMS,
    THIRD,
    WARPS,
    GridForm,
    grid_form,
)
from etp.kernels.on_gpu.triton_source import compiled, padded
from etp.products._described import Described
from tests.kernels import resources

A100, HOPPER, NEWEST = CARDS
FOURTH = THIRD.derivative(range(len(THIRD.inputs)), range(len(THIRD.outputs)))
EVALUATIONS = {"forward": PRODUCT, "backward": SECOND, "double backward": THIRD}
EVALUATIONS |= {"third": FOURTH, "by one": TERMS[1], "by the other": TERMS[2]}
# What is left of the gradients of gradients where one of three is not asked for.
EVALUATIONS["two of three"] = THIRD._replace(outputs=THIRD.outputs[1:])
ITEMSIZE = {"fp32": 4, "fp64": 8}
SAMPLED = {
    "lmax 5": ("gaunt-grid", "128x0e+128x1o+128x2e+128x3o+128x4e+128x5o"),
    "both parities": ("gaunt-bracket", "64x0e+64x0o+64x1e+64x1o+64x2e+64x2o"),
    "widest": ("gaunt-bracket", "128x0e+128x1o+128x2e+128x3o+128x4e+128x5o"),
    "fields": ("vector-signal", "128x0e+128x1o+128x2e"),
    "stages": ("complete", "128x0e+128x1o"),
}


def shapes() -> Iterator[tuple[str, str]]:
    """Features of layers with themselves, where multiplicities are equal, and degrees to 7."""
    for layer in presets.LAYERS.values():
        terms = [term.split("x") for term in layer.nodes.split("+")]
        if len({mul for mul, _ in terms}) == 1 and any(ir[0] != "0" for _, ir in terms):
            yield layer.name, layer.nodes
    for lmax in range(1, 8):
        yield f"lmax {lmax}", natural(lmax)


def form_of(name: str, irreps: str, dtype: torch.dtype = torch.float64) -> Form | None:
    tp = products.get(name)(irreps, irreps)
    assert isinstance(tp, Described)
    form: Form | None = tp.fused.form(torch.device("cpu"), dtype)
    return form


def forms(name: str) -> Iterator[Form]:
    """Forms of a product at every shape, where it has one."""
    every = (form_of(name, irreps) for _, irreps in shapes())
    yield from (form for form in every if form is not None)


def reserved(form: GridForm, evaluation: Evaluation, card: Card, dtype: str) -> int:
    """What the compiler takes for the rows that are chosen on a card: the most of all kernels."""
    kinds = {"places": "*i32", "table": f"*{dtype}", "rows": "i32"}
    for n in range(len(evaluation.inputs)):
        kinds |= {f"a{n}": f"*{dtype}", f"s{n}": "i32"}
    kinds |= {f"o{n}": f"*{dtype}" for n in range(len(evaluation.outputs))}
    constants = {
        "BLOCK": form.rows(evaluation, ITEMSIZE[dtype], card.per_block),
        "ACC": tl.float64 if dtype == "fp64" else tl.float32, "PRECISION": "ieee",
    }  # fmt: skip
    return max(
        resources.shared_bytes(compiled(source), kinds, constants, card.capability, WARPS)
        for source in form.sources(evaluation)
    )


@pytest.mark.parametrize(
    ("sampled", "evaluation", "card"),
    # Each form meets the oldest card and the newest, in one evaluation or another.
    [
        ("lmax 5", "forward", A100), ("lmax 5", "backward", NEWEST),
        ("lmax 5", "double backward", A100), ("both parities", "forward", NEWEST),
        ("both parities", "backward", A100), ("fields", "backward", NEWEST),
        ("stages", "forward", A100), ("stages", "forward", NEWEST), ("widest", "forward", A100),
        ("widest", "backward", NEWEST), ("widest", "by one", A100),
        ("widest", "by the other", NEWEST), ("fields", "two of three", A100),
    ],
    ids=lambda given: getattr(given, "name", given),
)  # fmt: skip
def test_what_a_form_is_said_to_need_is_what_the_compiler_takes_at_the_most(
    sampled, evaluation, card, monkeypatch
):
    if sampled == "widest":
        monkeypatch.setattr(triton_grid, "shared_memory", lambda _: 1 << 30)
    form, asked = form_of(*SAMPLED[sampled]), EVALUATIONS[evaluation]
    assert isinstance(form, GridForm)
    rows = form.rows(asked, 8, card.per_block)
    said = form.needs(asked, rows, 8)
    taken = reserved(form, asked, card, "fp64")
    # Not far above either: or forms that fit would be left to the plain form.
    assert shared_bytes(form, asked, rows, 8) / 8 < taken <= said
    assert taken <= card.per_block or sampled == "widest"


@pytest.mark.parametrize("name", ["gaunt-grid", "gaunt-bracket", "complete", "vector-signal"])
def test_every_form_on_a_grid_fits_a_card_or_is_left_to_the_plain_form(name, monkeypatch):
    monkeypatch.setattr(triton_grid, "shared_memory", lambda _: 1 << 30)
    # Beyond 20 stages forms differ in number, not in size; tables take long.
    monkeypatch.setattr(triton_grid, "MAX_STAGES", 20)
    left = 0
    for form in forms(name):
        assert isinstance(form, GridForm)
        for card, dtype in product(CARDS, (torch.float32, torch.float64)):
            room, itemsize = card.per_block, dtype.itemsize
            monkeypatch.setattr(triton_grid, "shared_memory", lambda _, room=room: room)
            launched = grid_form(form.parts, form.stages, torch.device("cpu"), dtype)
            if launched is None:
                left += 1
                assert max(form.needs(term, ROWS[-1], itemsize) for term in TERMS) > room
                continue
            for evaluation in EVALUATIONS.values():
                # What does not fit is summed of terms, and those fit.
                if launched.at_once(evaluation, itemsize, room):
                    rows = launched.rows(evaluation, itemsize, room)
                    assert launched.needs(evaluation, rows, itemsize) <= room
        monkeypatch.setattr(triton_grid, "shared_memory", lambda _: 1 << 30)
    # Some are too large for some card: the choice is met.
    assert (left > 0) == (name in ("gaunt-bracket", "vector-signal"))


@pytest.mark.parametrize("name", ["cg-sparse", "cg-summed", "matrix", "matrix-block"])
def test_tiles_of_rows_fit_every_card(name):
    """A tile goes through shared memory once, one at a time: see compiled_paths.py."""
    found = 0
    for form in forms(name):
        assert isinstance(form, RowForm)
        found += 1
        widest = padded(max(block.dim for side in form.sides for block in side))
        assert form.rows * widest * 8 <= min(card.per_block for card in CARDS)
    assert found > 1


def test_with_less_memory_programs_are_smaller_and_then_there_are_none(monkeypatch):
    form = form_of(*SAMPLED["lmax 5"])
    assert isinstance(form, GridForm)
    chosen = [form.rows(PRODUCT, 8, kib << 10) for kib in (227, 130, 60)]
    assert chosen == [32, 16, 16]
    assert form.needs(PRODUCT, ROWS[-1], 8) > 60 << 10
    monkeypatch.setattr(triton_grid, "shared_memory", lambda _: 60 << 10)
    assert form_of(*SAMPLED["lmax 5"]) is None
    # Half as much in float32.
    assert form_of(*SAMPLED["lmax 5"], dtype=torch.float32) is not None


@pytest.mark.parametrize(("dtype", "cards"), [(torch.float32, 3), (torch.float64, 2)], ids=str)
def test_bracket_at_lmax_5_has_a_kernel_where_the_compiler_allows_it(dtype, cards, monkeypatch):
    found = []
    for card in CARDS:
        monkeypatch.setattr(triton_grid, "shared_memory", lambda _, card=card: card.per_block)
        found.append(form_of(*SAMPLED["widest"], dtype) is not None)
    assert sum(found) == cards
    # All of them but the oldest.
    assert found == [cards == len(CARDS), True, True]


@pytest.mark.parametrize("name", ["gaunt-grid", "gaunt-bracket", "vector-signal"])
def test_the_page_says_up_to_where_there_are_kernels(name, monkeypatch):
    found = []
    for card, dtype in product((HOPPER, A100), (torch.float32, torch.float64)):
        monkeypatch.setattr(triton_grid, "shared_memory", lambda _, card=card: card.per_block)
        found.append(max(n for n in range(1, 6) if form_of(name, natural(n, 2), dtype)))
    assert f"| `{name}` | {' | '.join(map(str, found))} |" in PAGE.read_text()
