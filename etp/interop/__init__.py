"""Products of other libraries, computed here: one at a time, or all inside a model."""

from etp.interop import mace as mace
from etp.interop import nequip as nequip
from etp.interop.replace import Report as Report
from etp.interop.replace import fusion_for as fusion_for
from etp.interop.replace import replace_in as replace_in
from etp.interop.replace import replacement_for as replacement_for
from etp.interop.tensor_product import ConvertedProduct as ConvertedProduct
from etp.interop.tensor_product import from_e3nn as from_e3nn
