"""Fewer bits for the numbers of a network, after every pass has run."""

from pbcompile.quantize.storage import FORMATS, store_weights

__all__ = ["FORMATS", "store_weights"]
