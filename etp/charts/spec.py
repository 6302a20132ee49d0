"""A chart as what a browser needs: a finished Vega-Lite specification and small tables."""

from __future__ import annotations

import hashlib
import re
from threading import Lock
from typing import Any

import altair as alt
import pandas as pd
from altair.utils import schemapi

from etp.charts.base import FADED

_drawing = Lock()
_USED = re.compile(r"datum(?:\.(\w+)|\[['\"](\w+)['\"]\])")


class Unchecked:
    """Draw without checking every part against the schema of Vega-Lite, and without copying it.

    Checking takes most of the time of drawing, and its answer is known: tests check the
    specification of every chart. A chart that is put together copies each of its layers to the
    last field, twice, so that whoever made them may use them again; here nobody does. Altair's
    switches are one for the whole process, so one draws at a time.
    """

    def __enter__(self) -> None:
        _drawing.acquire()
        self._before = schemapi.DEBUG_MODE, schemapi._deep_copy
        schemapi.DEBUG_MODE = False
        schemapi._deep_copy = _copied_once  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        schemapi.DEBUG_MODE, schemapi._deep_copy = self._before
        _drawing.release()


def _copied_once(part: Any, by_ref: set[str]) -> Any:
    """A copy that shares what is in it: fields of either can be set, not those of what they hold.

    Args:
        part: Of a chart.
        by_ref: Names of fields that Altair would share; here all are.
    """
    return part.copy(deep=False) if isinstance(part, schemapi.SchemaBase) else part


def specification(chart: Any) -> dict[str, Any]:
    """Return a chart as a specification whose ``datasets`` are tables in Arrow's format.

    Layers that show the same rows share a table, and a table has only the columns that are used.

    Args:
        chart: A chart of this package, made for this call.
    """
    tables: dict[str, pd.DataFrame] = {}
    for part in [chart, *getattr(chart, "layer", [])]:
        if isinstance(part.data, pd.DataFrame):
            name = next((n for n, table in tables.items() if table is part.data), None)
            name = name or f"table{len(tables)}"
            tables[name] = part.data
            part.data = alt.NamedData(name=name)
    # Apart: a chart that is written copies itself with all its layers first.
    layers, chart.layer = chart.layer, []
    spec: dict[str, Any] = chart.to_dict(validate=False)
    within = {"top_level": False, "data": chart.data}
    spec["layer"] = [layer.to_dict(validate=False, context=within) for layer in layers]
    used = fields_of(spec)
    named = {name: _arrow(table, used) for name, table in tables.items()}
    # By content: a browser takes a table of another name for another table, and the same for same.
    contents = {name: _named(body) for name, body in named.items()}
    for part in [spec, *spec.get("layer", [])]:
        name = part.get("data", {}).get("name")
        if name in contents:
            part["data"] = {"name": contents[name]}
    spec["datasets"] = {contents[name]: body for name, body in named.items()}
    return spec


def picked(spec: dict[str, Any], product: str) -> dict[str, Any]:
    """The same chart with every product but one faded, as if it had been drawn so.

    Only the column ``fade`` of its tables is another (:func:`etp.charts.base.faded`).

    Args:
        spec: Of a chart that was drawn with no product selected.
        product: What is kept bright; where the chart does not show it, nothing fades.
    """
    import pyarrow as pa  # type: ignore[import-untyped]  # comes with the dashboard alone

    tables = {name: pa.ipc.open_stream(body).read_all() for name, body in spec["datasets"].items()}
    fading = {name: t for name, t in tables.items() if {"fade", "product"} <= {*t.column_names}}
    if not any(product in table["product"].to_pylist() for table in fading.values()):
        return spec
    sent, renamed = dict(spec["datasets"]), {}
    for name, table in fading.items():
        fade = [1.0 if shown == product else FADED for shown in table["product"].to_pylist()]
        place = table.column_names.index("fade")
        body = _written(table.set_column(place, "fade", pa.array(fade)))
        del sent[name]
        renamed[name] = _named(body)
        sent[renamed[name]] = body

    def with_data(part: dict[str, Any]) -> dict[str, Any]:
        name = part.get("data", {}).get("name")
        return part | {"data": {"name": renamed[name]}} if name in renamed else part

    layers = [with_data(layer) for layer in spec["layer"]]
    return with_data(spec) | {"layer": layers, "datasets": sent}


def fields_of(spec: Any) -> set[str]:
    """Names of the columns that a specification uses, in encodings and in expressions."""
    fields: set[str] = set()
    if isinstance(spec, dict):
        for name, value in spec.items():
            if name in ("field", "groupby", "fields") and isinstance(value, str | list):
                fields.update([value] if isinstance(value, str) else map(str, value))
            else:
                fields |= fields_of(value)
    elif isinstance(spec, list):
        for value in spec:
            fields |= fields_of(value)
    elif isinstance(spec, str):
        fields.update(a or b for a, b in _USED.findall(spec))
    return fields


def _arrow(table: pd.DataFrame, used: set[str]) -> bytes:
    import pyarrow as pa

    columns = [column for column in table.columns if column in used]
    arrow_table = pa.table(
        {column: pa.array(table[column], from_pandas=True) for column in columns}
    )
    return _written(arrow_table)


def _written(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _named(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:16]
