"""Kept for programs written before it moved to :mod:`etp.product.registry`."""

from etp.product.registry import register as register
from etp.product.registry import registry as registry
