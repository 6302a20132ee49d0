"""Fields, plurals and numbers are written as people read them."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from etp.analysis.comparison import comparisons
from etp.analysis.tables import frame
from etp.charts.theme import contrast
from etp.problem import EmptyProblemError, Problem
from etp.results.reference import reference_rows
from etp.text import counted, quartiles_text
from etp.ui import bar, data, jobs
from etp.ui.plain import csv
from etp.ui.settings import CUSTOM, Settings
from etp.ui.show import provenance_text
from tests.ui.opening import ROOT, open_page


def refused(irreps1="0e", irreps2="0e", keep=None) -> ValueError:
    with pytest.raises(ValueError, match=r"\w") as caught:
        Problem.of_irreps(irreps1, irreps2, keep)
    return caught.value


def test_fields_are_called_as_the_page_calls_them():
    assert bar._field(refused(irreps1="1x")) == "input 1"
    assert bar._field(refused(irreps2="abc")) == "input 2"
    empty = refused("1o", "1o", "1o")
    assert isinstance(empty, EmptyProblemError)
    assert bar._field(empty) == "what is asked"
    assert bar._field(ValueError("devices: choose at least one")) == "devices"


def test_a_multiplicity_is_told_as_one():
    said = str(refused("-1x0e"))
    assert "multiplicity" in said
    assert "parity" not in said
    assert "parity" in str(refused("1x"))
    assert "nothing stands here" in str(refused("1o+"))


def test_numbers_agree_with_their_nouns():
    assert counted(1, "path") == "1 path"
    assert counted(85, "path") == "85 paths"
    assert counted(0, "path") == "0 paths"


def test_quartiles_are_never_powers():
    assert "e+" not in quartiles_text(2.24, 2.39)
    assert quartiles_text(0.000131, 0.000134) == "0.131 – 0.134"


def test_channels_are_not_named_beside_irreps_with_multiplicities():
    typed = Settings(setting=CUSTOM, irreps1="128x0e", irreps2="128x0e")
    assert "channel" not in bar._sizes_label(typed)
    assert "channel" in bar._sizes_label(Settings())


def test_provenance_says_edges_and_nodes_and_no_channels_beside_irreps_that_have_them():
    first = comparisons(reference_rows())[0]
    assert "batch 1\u202f000 × 1 channel ·" in provenance_text(first)
    problems = {
        "1\u202f000 edges": Problem.of_irreps("128x0e+128x1o", "0e+1o", batch=1000),
        "1 node × 128 channels": Problem.of_irreps("128x0e", None, kind="power", batch=1),
        "batch 10 ·": Problem.of_irreps("0e", "0e", batch=10),
    }
    for words, problem in problems.items():
        said = provenance_text(replace(first, problem=problem))
        assert words in said
        assert ("channel" in words) == ("channel" in said)


def test_captions_and_buttons_can_be_read():
    """Streamlit draws them at 60 % of the text colour; 4.5 is what WCAG asks for."""
    theme = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())["theme"]

    for mode in ("light", "dark"):
        ink, page = (
            [int(theme[mode][name][k : k + 2], 16) for k in (1, 3, 5)]
            for name in ("textColor", "backgroundColor")
        )
        mixed = "".join(f"{round(0.6 * a + 0.4 * b):02x}" for a, b in zip(ink, page, strict=True))
        assert contrast(f"#{mixed}", theme[mode]["backgroundColor"]) >= 4.5, mode
        assert contrast("#FFFFFF", theme[mode]["primaryColor"]) >= 4.5, f"buttons, {mode}"


def test_the_table_says_what_was_measured_and_where():
    text = csv(frame(comparisons(reference_rows())[0])).decode()
    head, first = text.splitlines()[:2]
    columns = dict(zip(head.split(","), range(100), strict=False))
    for name in ("input 1", "input 2", "dtype", "direction", "weighted", "machine", "threads"):
        assert name in columns
    assert "0e+1o" in first
    assert "float32" in first


def test_a_download_holds_the_comparisons_that_are_shown_and_their_verdicts():
    view = data.view(Settings())
    rows = data.rows_behind(view.rows, view.comparisons)
    assert {row.problem["setting"] for row in rows} == {"MIMO"}
    assert len(rows) < len(view.rows)
    again = comparisons(rows)
    assert [c.problem for c in again] == [c.problem for c in view.comparisons]
    verdicts = view.chosen.judgement.verdicts
    (same,) = [c for c in again if c.problem == view.chosen.problem]
    assert verdicts == {product: same.judgement.verdicts[product] for product in verdicts}


@pytest.mark.parametrize(
    "query", [{"products": "foo"}, {"setting": CUSTOM, "irreps1": "1x"}, {"devices": "cuda:9"}]
)
@pytest.mark.usefixtures("fresh_server")
def test_what_is_wrong_stands_in_no_pale_caption(query):
    jobs.catalog().entries(wait_s=60.0)
    page = open_page("compare", **query)
    assert any("Cannot run" in said.value for said in page.markdown)
    assert not any(":red[" in said.value for said in page.caption)


@pytest.mark.usefixtures("fresh_server")
def test_words_of_the_trade_have_a_gloss_where_they_first_stand():
    first = " ".join(m.value for m in open_page("compare").markdown[:4])
    for gloss in ("MIMO: both inputs", "A path takes one degree of each input"):
        assert gloss in first
