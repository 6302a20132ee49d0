"""Kept for programs written before it moved to :mod:`etp.products._library`."""

from etp.products._library import LibraryProduct as LibraryProduct
from etp.products._library import dense_macs as dense_macs
