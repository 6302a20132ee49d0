"""How time grows with lmax, batch or channels: fitted slopes, crossovers, and what limits it."""

from etp.analysis.growth.crossings import Crossing, PayOff, crossings, pay_offs
from etp.analysis.growth.fits import Bent, Fit, Growth, bent_fit, fit, fitted_sizes, growths
from etp.analysis.growth.limits import LIMIT_WORDS, Limit, limits, roofs_of
from etp.analysis.growth.lines import AXES, Line, lines, swept_axis
from etp.analysis.growth.words import crossing_sentence, growth_finding, pay_off_sentence

__all__ = [
    "AXES",
    "LIMIT_WORDS",
    "Bent",
    "Crossing",
    "Fit",
    "Growth",
    "Limit",
    "Line",
    "PayOff",
    "bent_fit",
    "crossing_sentence",
    "crossings",
    "fit",
    "fitted_sizes",
    "growth_finding",
    "growths",
    "limits",
    "lines",
    "pay_off_sentence",
    "pay_offs",
    "roofs_of",
    "swept_axis",
]
