import gzip
import http.server
import os
import struct
import threading
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
REAL_DATA = Path(os.environ.get("XPNET_DATA_DIR", "nowhere")).resolve()


@pytest.fixture(autouse=True)
def nothing_of_the_users(monkeypatch, tmp_path):
    """No data folder, cache or proxy of whoever runs the tests."""
    monkeypatch.delenv("XPNET_DATA_DIR", raising=False)
    for name in ("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def real_mnist():
    """The folder that holds ``mnist/`` with the official files."""
    if not (REAL_DATA / "mnist").is_dir():
        pytest.skip("needs the official MNIST files in $XPNET_DATA_DIR/mnist")
    return REAL_DATA


def idx(array):
    """The bytes of an idx file, written from the format's description."""
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def small_set():
    """Five and three images of 28x28: the four arrays, in the order of the files."""
    pixels = np.arange(8 * 784).reshape(8, 28, 28) % 251
    return pixels[:5], np.array([5, 0, 4, 1, 9]), pixels[5:], np.array([7, 2, 1])


@pytest.fixture
def write_set(small_set):
    """``write_set(folder, zipped=…)``: the small set as idx files in a new folder."""

    def write(folder, zipped=False, names=FILES):
        folder.mkdir(parents=True)
        for name, array in zip(FILES, small_set, strict=True):
            if name in names:
                content = gzip.compress(idx(array)) if zipped else idx(array)
                (folder / (name + ".gz" * zipped)).write_bytes(content)
        return folder

    return write


class Mirror(http.server.ThreadingHTTPServer):
    """Serves ``files`` on 127.0.0.1; a subclass of its handler misbehaves as a test needs."""

    daemon_threads = True

    def __init__(self, handler, files):
        super().__init__(("127.0.0.1", 0), handler)
        self.files = files
        self.requests = []
        self.released = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}/set/"

    def handle_error(self, request, client_address):
        """A client that hung up is what some tests are about."""


class Handler(http.server.BaseHTTPRequestHandler):
    """A mirror that works."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        content = self.answer()
        if content:
            self.send(content)

    def answer(self):
        name = Path(urlsplit(self.path).path).name
        self.server.requests.append((self.command, name))
        content = self.server.files.get(name)
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.headers_of_file()
        self.end_headers()
        return content

    def headers_of_file(self):
        pass

    def send(self, content):
        self.wfile.write(content)

    def log_message(self, *args):
        pass


class Truncating(Handler):
    """Promises the whole file, sends half and hangs up."""

    def send(self, content):
        self.wfile.write(content[: len(content) // 2])


class Stalling(Handler):
    """Sends half the file, then nothing, and keeps the line."""

    def send(self, content):
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        self.server.released.wait(10)


class Silent(Handler):
    """Takes the question and never answers."""

    def answer(self):
        self.server.released.wait(10)


class DeclaringGzip(Handler):
    """Says of a .gz file that gzip is its transport encoding."""

    def headers_of_file(self):
        self.send_header("Content-Encoding", "gzip")


HANDLERS = {
    "good": Handler,
    "truncating": Truncating,
    "stalling": Stalling,
    "silent": Silent,
    "declaring gzip": DeclaringGzip,
}


@pytest.fixture
def mirror():
    """``mirror(files, kind)``: a running :class:`Mirror`, stopped after the test."""
    running = []

    def start(files, kind="good"):
        server = Mirror(HANDLERS[kind], files)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
