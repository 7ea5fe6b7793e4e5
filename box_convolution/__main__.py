"""`python -m box_convolution` is `boxconv`."""

import sys

from .cli import main

sys.exit(main())
