"""Coupling coefficients, recoupling symbols and rotations against e3nn, sympy and identities."""

from __future__ import annotations

from itertools import product
from math import pi, sqrt

import pytest
import torch
from e3nn import o3
from sympy.physics.wigner import gaunt, wigner_3j, wigner_6j, wigner_9j

from etp.maths import so3, sphere

TRIPLES = [(a, b, c) for a, b in product(range(5), repeat=2) for c in range(abs(a - b), a + b + 1)]


@pytest.fixture(scope="module")
def rotations():
    return so3.random_rotations(3, torch.Generator().manual_seed(7))


@pytest.mark.parametrize("triple", [*TRIPLES, (6, 6, 7), (6, 6, 12), (8, 7, 10), (10, 10, 11)])
def test_coefficients_are_those_of_e3nn(triple):
    theirs = o3.wigner_3j(*triple, dtype=torch.float64)
    assert torch.allclose(so3.clebsch_gordan(*triple), theirs, rtol=0, atol=1e-13)


def test_coefficients_of_high_degree_couple_to_invariants(rotations):
    # e3nn's table ends at 11: beyond it, invariance and norm define them up to a sign.
    w = so3.clebsch_gordan(10, 10, 20)
    degrees = so3.wigner_d(20, rotations)
    for k in range(len(rotations)):
        turned = torch.einsum(
            "ijk,ai,bj,ck->abc", w, degrees[10][k], degrees[10][k], degrees[20][k]
        )
        assert torch.allclose(turned, w, rtol=0, atol=1e-12)
    assert w.norm().item() == pytest.approx(1, abs=1e-12)
    assert w[10, 10, 20] > 0


@pytest.mark.parametrize("ls", [(1, 1, 2), (2, 3, 4), (5, 5, 6), (9, 8, 7)])
def test_3j_symbols_are_those_of_sympy(ls):
    for m1, m2 in product((-1, 0, 1), repeat=2):
        expected = float(wigner_3j(*ls, m1, m2, -m1 - m2))
        assert so3.wigner_3j_symbol(*ls, m1, m2, -m1 - m2) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    "degrees", [(1, 1, 1, 1, 1, 1), (2, 2, 2, 3, 3, 3), (3, 5, 6, 6, 6, 6), (4, 4, 8, 4, 4, 4)]
)
def test_6j_symbols_are_those_of_sympy(degrees):
    expected = float(wigner_6j(*degrees))
    assert so3.wigner_6j(*degrees) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    "degrees",
    [(1, 1, 0, 1, 1, 1, 1, 1, 1), (2, 1, 1, 1, 1, 1, 1, 2, 1), (3, 2, 1, 1, 1, 1, 2, 2, 1)],
)
def test_9j_symbols_are_those_of_sympy(degrees):
    expected = float(wigner_9j(*degrees))
    assert so3.wigner_9j(*degrees) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("ls", [(1, 1, 2), (2, 2, 2), (3, 4, 5), (2, 2, 3)])
def test_gaunt_coefficients_are_the_size_of_the_integrals(ls):
    # Complex harmonics at m = 0 are real: the integral is g times the [0, 0, 0] entry.
    expected = float(gaunt(*ls, 0, 0, 0))
    l1, l2, l3 = ls
    found = so3.gaunt_coefficient(*ls) * so3.clebsch_gordan(*ls)[l1, l2, l3].item()
    assert found == pytest.approx(expected, abs=1e-14)


def test_bracket_coefficients_never_vanish_on_odd_paths():
    smallest = min(
        so3.bracket_coefficient(a, b, c)
        for a, b in product(range(1, 9), repeat=2)
        for c in range(abs(a - b), a + b + 1)
        if (a + b + c) % 2
    )
    assert smallest == pytest.approx(so3.bracket_coefficient(1, 1, 1), abs=1e-12)
    assert so3.bracket_coefficient(1, 1, 1) == pytest.approx(1.197, abs=1e-3)
    assert so3.bracket_coefficient(1, 1, 2) == 0


def test_wigner_matrices_rotate_harmonics_of_any_degree(rotations):
    points = torch.nn.functional.normalize(
        torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)), dim=1
    )
    degrees = so3.wigner_d(20, rotations)
    before = sphere.spherical_harmonics(20, points)
    for k, rotation in enumerate(rotations):
        after = sphere.spherical_harmonics(20, points @ rotation.T)
        for l in range(21):
            part = slice(l * l, (l + 1) ** 2)
            turned = before[:, part] @ degrees[l][k].T
            assert torch.allclose(turned, after[:, part], rtol=0, atol=1e-12)


def test_wigner_matrices_are_a_representation(rotations):
    both = so3.wigner_d(6, torch.stack([rotations[0] @ rotations[1]]))
    single = so3.wigner_d(6, rotations)
    for l in range(7):
        assert torch.allclose(single[l][0] @ single[l][1], both[l][0], rtol=0, atol=1e-13)
        identity = single[l][0] @ single[l][0].T
        assert torch.allclose(identity, torch.eye(2 * l + 1, dtype=torch.float64), atol=1e-13)


def test_random_rotations_are_proper_and_repeatable():
    first, again = (so3.random_rotations(50, torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.allclose(torch.linalg.det(first), torch.ones(50, dtype=torch.float64))
    assert first.mean(0).abs().max() < 0.3


def test_a_quarter_turn_about_y_takes_z_to_x():
    turn = so3.axis_rotation((0, 1, 0), pi / 2)
    assert torch.allclose(
        turn @ torch.tensor([0.0, 0, 1], dtype=torch.float64),
        torch.tensor([1.0, 0, 0], dtype=torch.float64),
    )


def test_a_triangle_that_does_not_close_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 1, 3\)"):
        so3.clebsch_gordan(1, 1, 3)


def test_the_cross_product_is_the_smallest_odd_path():
    epsilon = so3.clebsch_gordan(1, 1, 1)
    # Components x, y, z: +1 / sqrt 6 on even permutations.
    assert epsilon[0, 1, 2].item() == pytest.approx(1 / sqrt(6), abs=1e-15)
    assert epsilon[1, 0, 2].item() == pytest.approx(-1 / sqrt(6), abs=1e-15)
