"""`python -m boxconv` is `boxconv`."""

import sys

from .cli import main

sys.exit(main())
