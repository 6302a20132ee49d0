"""Harmonics against e3nn; grids that are exact, and wrong as soon as they are one node short."""

from __future__ import annotations

import pytest
import torch
from e3nn import o3

from etp.maths import so3, sphere


def points(count: int = 20) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(
        torch.randn(count, 3, dtype=torch.float64, generator=generator), dim=1
    )


def test_harmonics_are_those_of_e3nn():
    theirs = o3.spherical_harmonics(
        list(range(9)), points(), normalize=False, normalization="integral"
    )
    assert torch.allclose(sphere.spherical_harmonics(8, points()), theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("lmax", [0, 1, 5, 12])
def test_harmonics_are_orthonormal_on_the_grid_of_their_square(lmax):
    nodes = sphere.grid(lmax + 1, 2 * lmax + 1)
    values = sphere.spherical_harmonics(lmax, sphere.grid_points(nodes)).flatten(0, 1)
    weights = nodes.weights.repeat_interleave(len(nodes.alpha))
    gram = values.T * weights @ values
    assert torch.allclose(gram, torch.eye(len(gram), dtype=torch.float64), rtol=0, atol=1e-13)


def integral(ls: tuple[int, int, int], rows: int, columns: int) -> torch.Tensor:
    """Integrals of three harmonics by the given grid, divided by the Gaunt coefficient."""
    l1, l2, l3 = ls
    nodes = sphere.grid(rows, columns)
    values = sphere.spherical_harmonics(max(l1, l2, l3), sphere.grid_points(nodes))

    def degree(l: int) -> torch.Tensor:
        return values[..., l * l : (l + 1) ** 2]

    product = torch.einsum("bai,baj,bak,b->ijk", degree(l1), degree(l2), degree(l3), nodes.weights)
    return product / so3.gaunt_coefficient(l1, l2, l3)


@pytest.mark.parametrize("ls", [(1, 1, 2), (2, 2, 4), (3, 2, 5), (4, 4, 8), (3, 5, 4)])
def test_the_smallest_exact_grid_is_exact_and_one_node_less_is_not(ls):
    rows, columns = sphere.exact_resolution(*ls)
    w = so3.clebsch_gordan(*ls)
    assert torch.allclose(integral(ls, rows, columns), w, rtol=0, atol=1e-13)
    for smaller in ((rows - 1, columns), (rows, columns - 1)):
        assert (integral(ls, *smaller) - w).norm() > 0.01


def test_derivatives_of_the_tables_match_finite_differences():
    beta = torch.linspace(0.3, 2.8, 7, dtype=torch.float64)
    step = 1e-6
    slope = (sphere.legendre(6, beta + step) - sphere.legendre(6, beta - step)) / (2 * step)
    assert torch.allclose(sphere.legendre_derivative(6, beta), slope, rtol=0, atol=1e-8)
