from __future__ import annotations

import pytest

from etp.results.rows import RowError, check_row
from tests.make import row


def test_a_good_row_passes():
    check_row(row())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema": 2}, "schema"),
        ({"id": ""}, "id"),
        ({"status": "fine"}, "status"),
        ({"measure": "speed"}, "measure"),
        ({"badges": "noisy"}, "badges"),
        ({"result": None}, "result"),
        ({"result": {}}, "result.median_s"),
        ({"result": {"median_s": -1}}, "result.median_s"),
        ({"result": {"median_s": True}}, "result.median_s"),
        ({"result": {"median_s": 1.0, "q25_s": float("nan")}}, "result"),
        ({"status": "failed"}, "result"),
        ({"status": "failed", "result": None}, "reason"),
        ({"problem": {"lmax": 1}}, "problem"),
        ({"environment": None}, "environment"),
        ({"job": 3}, "job"),
    ],
)
def test_a_bad_row_is_refused_with_the_field_that_is_wrong(change, field):
    with pytest.raises(RowError) as error:
        check_row(row(**change))
    assert error.value.field == field
    assert field in str(error.value)


def test_a_failed_row_needs_only_a_reason():
    check_row(row(status="failed", result=None, reason="the worker was killed"))
