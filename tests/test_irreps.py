"""Irreps as people type them, and errors that say where and what to do."""

from __future__ import annotations

import pytest
from e3nn import o3

from etp import irreps
from etp.irreps import IrrepsError, parse_terms, setting_irreps, to_text
from etp.problem import Problem


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("0e+1o", "0e+1o"), (" 4x0e + 4 x 1o ", "4x0e+4x1o"), ("2*1e", "2x1e"),
        ("16x0e+16x1o+16x2e", "16x0e+16x1o+16x2e"),
    ],
)  # fmt: skip
def test_what_people_type_is_read(text, normal):
    assert to_text(parse_terms(text)) == normal
    assert irreps.parse(text) == o3.Irreps(normal)


@pytest.mark.parametrize(
    ("text", "position", "suggestion"),
    [
        ("0e + 1x + 2e", "position 6", "0e + 1o + 2e"),
        ("0e + 1", "position 6", "0e + 1o"),
        ("", "empty", None),
        ("0e + 99o", "99", None),
        ("hello", "position 1", None),
    ],
)
def test_what_is_wrong_is_named_with_its_position_and_a_mend(text, position, suggestion):
    with pytest.raises(IrrepsError) as caught:
        parse_terms(text, "irreps1")
    assert caught.value.field == "irreps1"
    assert position in str(caught.value)
    if suggestion is not None:
        assert caught.value.suggestion is not None
        parse_terms(caught.value.suggestion)


def test_different_multiplicities_are_refused_with_the_mend():
    with pytest.raises(ValueError, match="multiplicit"):
        irreps.channels(parse_terms("2x0e+3x1o"))


@pytest.mark.parametrize(
    ("setting", "lmax", "outputs", "counts"),
    [
        ("MIMO", 1, "all", (6, 16)), ("MIMO", 4, "all", (85, 625)), ("MIMO", 4, "natural", None),
        ("SIMO", 3, "all", (7, 49)), ("SISO", 3, "all", (1, 7)), ("SISO", 2, "natural", (1, 5)),
    ],
)  # fmt: skip
def test_settings_hold_the_paths_of_the_paper(setting, lmax, outputs, counts):
    size = Problem.of_setting(setting, lmax, outputs=outputs).size()
    if counts is not None:
        assert (size.paths, size.outputs) == counts
    else:
        assert size.paths == 55


def test_an_odd_degree_alone_has_nothing_of_natural_parity():
    first, second, keep = setting_irreps("SISO", 3, "natural")
    assert "odd times odd is even" in irreps.why_empty(first, second, str(keep))
