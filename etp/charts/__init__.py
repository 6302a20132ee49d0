"""Charts: data frames in, Altair (2D) or Plotly (sphere) figures out. No files, no server."""

from etp.charts.base import PICK, alt_text
from etp.charts.equivariance import cliff, equivariance_dots, equivariance_strip, per_degree
from etp.charts.expressivity import WIDTH as MAP_WIDTH
from etp.charts.expressivity import gamma_bars, interactability_map
from etp.charts.learning import answers, confusion, curves, forces, learned, screws
from etp.charts.lines import per_gamma_lines, runtime_lines, size_lines
from etp.charts.paper import COLUMN_IN, PAGE_IN, export
from etp.charts.progress import progress_grid
from etp.charts.ratio import machines, ratio
from etp.charts.samples import samples_over_time
from etp.charts.scaling import roofline, roofs_text, scaling, slope_text, slopes
from etp.charts.tradeoff import tradeoff
from etp.charts.turning import turning

__all__ = [
    "COLUMN_IN",
    "MAP_WIDTH",
    "PAGE_IN",
    "PICK",
    "alt_text",
    "answers",
    "cliff",
    "confusion",
    "curves",
    "equivariance_dots",
    "equivariance_strip",
    "export",
    "forces",
    "gamma_bars",
    "interactability_map",
    "learned",
    "machines",
    "per_degree",
    "per_gamma_lines",
    "progress_grid",
    "ratio",
    "roofline",
    "roofs_text",
    "runtime_lines",
    "samples_over_time",
    "scaling",
    "screws",
    "size_lines",
    "slope_text",
    "slopes",
    "tradeoff",
    "turning",
]
