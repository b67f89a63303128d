"""The command `aejax` for tests that look at no figure. Figures are built, but not rendered.

Rendering takes more than half of the time of a small sweep.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

from aejax import cli
from aejax.reporting import images

AEJAX = (sys.executable, __file__)
"""The beginning of a command line."""


def one_pixel(_figure: object, colours: int) -> bytes:
    """A PNG of one pixel in place of the figure."""
    from PIL import Image  # a slow import

    buffer = io.BytesIO()
    Image.new("P", (1, 1), colours - 1).save(buffer, format="png")
    return buffer.getvalue()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command without rendering figures."""
    images.render = one_pixel
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
