"""Colours of pictures, beyond those of `box_convolution.drawing`, on whose canvas they are drawn."""

BLUE, ORANGE = "#2b6cb0", "#d2571c"
LINES = (BLUE, ORANGE, "#2f8f5b", "#8e44ad", "#8c5a1e", "#00838f")
"""Of the curves of a plot, in their order."""
