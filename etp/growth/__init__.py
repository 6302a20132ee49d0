"""How time grows with lmax, batch or channels: fitted slopes, crossovers, and what limits it."""

from etp.growth.crossings import Crossing, PayOff, crossings, pay_offs
from etp.growth.fits import Fit, Growth, fit, fitted_sizes, growths
from etp.growth.limits import LIMIT_WORDS, Limit, limits, roofs_of
from etp.growth.lines import AXES, Line, lines, swept_axis
from etp.growth.words import crossing_sentence, growth_finding, pay_off_sentence

__all__ = [
    "AXES",
    "LIMIT_WORDS",
    "Crossing",
    "Fit",
    "Growth",
    "Limit",
    "Line",
    "PayOff",
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
