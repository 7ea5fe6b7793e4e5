"""Box convolutions for networks that were written without them."""

from .replace import replace_dilated
from .report import Replacement, Report

__all__ = ["Replacement", "Report", "replace_dilated"]
