"""Colours for plots, in addition to those of `box_convolution.drawing`."""

BLUE, ORANGE = "#2b6cb0", "#d2571c"
LINES = (BLUE, ORANGE, "#2f8f5b", "#8e44ad", "#8c5a1e", "#00838f")
"""Colours of the curves in a plot, in this order."""
