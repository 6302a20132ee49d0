"""Products of other libraries, computed here: one at a time, or all inside a model."""

from etp.interop.tensor_product import ConvertedProduct as ConvertedProduct
from etp.interop.tensor_product import from_e3nn as from_e3nn
