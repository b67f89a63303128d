"""MNIST from a mirror: the original bytes, or an error at once and nothing kept."""

import functools
import http.server
import socket
import threading
import time

import pytest

from aejax import datasets
from aejax.datasets import mnist
from aejax.runtime.errors import DataError

NAMES = [f"{name}.gz" for name, _ in mnist.FILES.values()]


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """serve(folder, ...): those folders become the mirrors; None is one that refuses connections."""
    servers = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
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
                handler = functools.partial(Quiet, directory=str(folder))
                server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
                threading.Thread(target=server.serve_forever, daemon=True).start()
                servers.append(server)
                urls.append(f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(mnist, "MIRRORS", tuple(urls))

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_download_verifies_and_falls_back_to_the_next_mirror(empty, own_files, serve):
    page = empty / "page"
    page.mkdir()
    (page / NAMES[0]).write_text("<html>please log in</html>")
    serve(None, page, own_files)
    data = datasets.load("mnist")
    assert data.x_train.shape == (55000, 784)
    manual = empty / "tfds" / "downloads" / "manual"
    assert sorted(path.name for path in manual.iterdir()) == sorted(NAMES)


def test_a_page_instead_of_a_file_is_refused_and_not_kept(refused, empty, own_files, serve):
    (own_files / NAMES[2]).write_text("<html>please log in</html>")
    serve(own_files)
    refused(DataError, NAMES[2], "expected an IDX file, found an HTML page", call=lambda: datasets.load("mnist"))
    manual = empty / "tfds" / "downloads" / "manual"
    assert sorted(path.name for path in manual.iterdir()) == sorted(NAMES[:2])
    assert not (empty / "tfds" / mnist.NAME).exists()


def test_a_connection_cut_short_is_refused(refused, empty, own_files, serve):
    (own_files / NAMES[0]).write_bytes((own_files / NAMES[0]).read_bytes()[:-20])
    serve(own_files)
    refused(DataError, NAMES[0], "damaged", call=lambda: datasets.load("mnist"))


def test_without_network_the_error_comes_at_once_and_names_the_files(refused, empty, serve):
    serve(None, None)
    start = time.monotonic()
    manual = empty / "tfds" / "downloads" / "manual"
    refused(DataError, *NAMES, manual, "no mirror could be reached", call=lambda: datasets.load("mnist"))
    assert time.monotonic() - start < 3
