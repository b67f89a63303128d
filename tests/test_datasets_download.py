"""Downloading MNIST: the original bytes, or an immediate error with nothing stored."""

import functools
import http.server
import socket
import threading
import time

import pytest

from aejax import datasets
from aejax.datasets import mnist
from aejax.runtime.errors import DataError

NAMES = list(mnist.GZIP_NAMES)


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """`serve(folder, ...)` makes these folders the mirrors. None stands for a mirror that refuses connections."""
    servers = []

    class SilentHandler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    def start(*folders):
        urls = []
        for folder in folders:
            if folder is None:
                with socket.socket() as unused:
                    unused.bind(("127.0.0.1", 0))
                    urls.append(f"http://127.0.0.1:{unused.getsockname()[1]}/")
            else:
                handler = functools.partial(SilentHandler, directory=str(folder))
                server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
                threading.Thread(target=server.serve_forever, daemon=True).start()
                servers.append(server)
                urls.append(f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(mnist, "MIRRORS", tuple(urls))

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_mirror_that_fails_or_sends_other_bytes_is_followed_by_the_next(empty, own_files, serve):
    page = empty / "page"
    page.mkdir()
    (page / NAMES[0]).write_text("<html>please log in</html>")
    serve(None, page, own_files)
    data = datasets.load("mnist")
    assert data.x_train.shape == (55000, 784)
    manual = empty / "tfds" / "downloads" / "manual"
    assert sorted(path.name for path in manual.iterdir()) == sorted(NAMES)


def test_a_web_page_in_place_of_a_file_is_refused_and_not_stored(refused, empty, own_files, serve):
    (own_files / NAMES[2]).write_text("<html>please log in</html>")
    serve(own_files)
    refused(DataError, NAMES[2], "expected an IDX file, found an HTML page", call=lambda: datasets.load("mnist"))
    manual = empty / "tfds" / "downloads" / "manual"
    assert sorted(path.name for path in manual.iterdir()) == sorted(NAMES[:2])
    assert not (empty / "tfds" / mnist.NAME).exists()


def test_a_truncated_download_is_refused(refused, empty, own_files, serve):
    (own_files / NAMES[0]).write_bytes((own_files / NAMES[0]).read_bytes()[:-20])
    serve(own_files)
    refused(DataError, NAMES[0], "damaged", call=lambda: datasets.load("mnist"))


def test_without_network_the_error_is_immediate_and_names_the_files(refused, empty, serve):
    serve(None, None)
    start = time.monotonic()
    manual = empty / "tfds" / "downloads" / "manual"
    refused(DataError, *NAMES, manual, "no mirror could be reached", call=lambda: datasets.load("mnist"))
    assert time.monotonic() - start < 3
