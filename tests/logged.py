"""A process that tests start. It imports nothing of aejax: scripts start many of them."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import ClassVar


class Logged(subprocess.Popen):
    """A process that writes its standard error to a file: a full pipe that nobody reads would stop it."""

    started: ClassVar[list["Logged"]] = []
    """Those of this process. The tests end them after each test."""

    def __init__(self, command, **options):
        handle, name = tempfile.mkstemp(prefix="aejax-tests-")
        self.log = Path(name)
        with os.fdopen(handle, "w") as log:
            super().__init__(command, stdout=subprocess.DEVNULL, stderr=log, text=True, **options)
        self.started.append(self)

    def messages(self, timeout=None):
        """Wait until it ends. What it wrote to standard error."""
        self.wait(timeout)
        text = self.log.read_text()
        self.log.unlink()
        return text
