"""Maps between features and fields on a grid: dense and order by order, and back exactly."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

from etp.kernels.tables import TableModule
from etp.maths import sphere
from etp.products._fields import FieldTransform, gradient, value
from etp.products._transforms import Assembly, sectors

LMAX = 3
IRS = [o3.Irrep(l, (-1) ** l) for l in range(LMAX + 1)]


def transform(fields, *, back: bool, dense: bool) -> FieldTransform:
    (sector,) = sectors(IRS).values()
    nodes = sphere.grid(*sphere.exact_resolution(LMAX, 0, LMAX))
    made = fields(LMAX, nodes)
    made = made if isinstance(made, tuple) and isinstance(made[0], tuple) else [made]
    points = 10**6 if dense else 0
    return FieldTransform(TableModule(), "t", sector, nodes, made, back=back, dense_points=points)  # type: ignore[arg-type]


def draw() -> torch.Tensor:
    return torch.randn(4, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dense", [True, False])
def test_a_signal_is_read_off_as_it_was(dense):
    x = draw()
    (signal,) = transform(value, back=False, dense=dense).to_grid(x)
    found = transform(value, back=True, dense=dense).from_grid([signal])
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


def test_two_stages_are_the_dense_map():
    x = draw()
    pairs = zip(*(transform(gradient, back=False, dense=d).to_grid(x) for d in (True, False)))  # noqa: B905  # both have two fields
    for dense, staged in pairs:
        torch.testing.assert_close(dense, staged, rtol=1e-12, atol=1e-12)


def test_both_parities_are_signals_of_their_own():
    found = sectors([o3.Irrep("0e"), o3.Irrep("1e"), o3.Irrep("1o")])
    assert [sector.positions.tolist() for sector in found.values()] == [[0, 4, 5, 6], [1, 2, 3]]
    parts = [torch.tensor([[0.0, 4, 5, 6]]), torch.tensor([[1.0, 2, 3]])]
    whole = Assembly(TableModule(), "order", found).join(parts)  # type: ignore[arg-type]
    assert whole.tolist() == [list(range(7))]
