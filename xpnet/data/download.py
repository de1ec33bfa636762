"""The published files of MNIST and Fashion-MNIST: their mirrors and hashes, and how to download them."""

from __future__ import annotations

import functools
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xpnet.errors import MissingFileError

ANSWER_WITHIN = 3.5  # seconds, all mirrors together: without a network the error comes within 5 s, imports included
STALL_AFTER = 20.0  # seconds without a byte
CHUNK = 2**16


@dataclass(frozen=True)
class Source:
    """A published data set: base addresses that end in a slash, and the SHA-256 of each file."""

    mirrors: tuple[str, ...]
    sha256: Mapping[str, str]


SOURCES: Mapping[str, Source] = {
    "mnist": Source(
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "fashion-mnist": Source(
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
}


def fetch(source: Source, folder: Path, answer_within: float = ANSWER_WITHIN, stall_after: float = STALL_AFTER) -> None:
    """Download the files of ``source`` into ``folder``; a file gets its name only with the right hash.

    All mirrors are asked at once and the first to answer is used; when it fails, the others are asked again.
    Files with the right hash are not downloaded again. Proxies come from the environment. Any number of
    processes may do this at once.

    Args:
        source: mirrors and hashes.
        folder: made where it is missing.
        answer_within: seconds within which a mirror must answer.
        stall_after: seconds without a byte after which a mirror is given up.

    Raises:
        MissingFileError: no mirror gave the published bytes (other bytes are deleted), or the folder cannot be
            written.
    """
    import pooch
    import requests
    import urllib3

    download = functools.partial(_download, timeout=(answer_within, stall_after))
    remaining = list(source.mirrors)
    failures = dict.fromkeys(source.mirrors, f"no answer within {answer_within:g} s")
    while mirror := _first_to_answer(remaining, next(iter(source.sha256)), answer_within, failures):
        remaining.remove(mirror)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, digest in source.sha256.items():
                pooch.retrieve(mirror + name, f"sha256:{digest}", name, folder, downloader=download)
            return
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            failures[mirror] = _reason(error)
        except OSError as error:
            raise MissingFileError(f"{folder} cannot be written: {error.strerror or error}") from error
        except ValueError:  # how pooch reports a wrong hash; it has deleted the file
            failures[mirror] = f"gave a {name} without the published SHA-256, which was deleted"
    report = "; ".join(f"{mirror} {failure}" for mirror, failure in failures.items())
    raise MissingFileError(f"no mirror served it: {report}")


def _first_to_answer(mirrors: Sequence[str], name: str, answer_within: float, failures: dict[str, str]) -> str | None:
    # Threads, since a DNS query may outlast every timeout; daemons, so that it does not delay the exit.
    answers: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()
    for mirror in mirrors:
        threading.Thread(target=_ask, args=(mirror, name, answer_within, answers), daemon=True).start()
    deadline = time.monotonic() + answer_within
    for _ in mirrors:
        try:
            mirror, failure = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None
        if failure is None:
            return mirror
        failures[mirror] = failure
    return None


def _ask(mirror: str, name: str, timeout: float, answers: queue.SimpleQueue[tuple[str, str | None]]) -> None:
    import requests

    try:
        with requests.head(mirror + name, timeout=timeout, allow_redirects=True) as response:
            response.raise_for_status()
        answers.put((mirror, None))
    except requests.RequestException as error:
        answers.put((mirror, _reason(error)))


def _download(url: str, path: str, _pooch: None, timeout: tuple[float, float]) -> None:
    import requests

    with requests.get(url, stream=True, timeout=timeout) as response, open(path, "wb") as file:
        response.raise_for_status()
        # As stored: a mirror may declare a .gz file to be gzip-encoded, but the hash is that of the .gz file.
        for chunk in response.raw.stream(CHUNK, decode_content=False):
            file.write(chunk)


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"failed ({type(error).__name__})" if response is None else f"answered {response.status_code}"
