"""`python -m aejax` is `aejax`."""

import sys

from aejax.cli import main

sys.exit(main())
