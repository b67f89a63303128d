"""`python -m aejax` is `aejax`."""

import sys

from aejax.cli.commands import main

sys.exit(main())
