"""The application around the networks of `box_convolution`, from data to reports, and its command line."""
