"""CuPy's backend, with a stand-in for CuPy."""

from __future__ import annotations

import copy
import pickle
import sys
from types import SimpleNamespace

import numpy as np

import xpnet
from xpnet.backends.cupy_backend import CudaKernels


def test_cuda_lives_on_the_current_device_and_stream(monkeypatch) -> None:
    waited = []
    stream = SimpleNamespace(synchronize=lambda: waited.append("stream"), record=lambda: "event")
    cuda = SimpleNamespace(
        Device=lambda: "GPU 0", get_current_stream=lambda: stream, get_elapsed_time=lambda began, ended: 1500.0
    )
    pool = SimpleNamespace(total_bytes=lambda: 7)
    cupy = SimpleNamespace(cuda=cuda, asnumpy=np.asarray, get_default_memory_pool=lambda: pool)
    monkeypatch.setattr("xpnet.backends.by_name.cuda_problem", lambda: None)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", SimpleNamespace())
    for name in ("auto", "cuda"):
        backend = xpnet.backend(name)
        assert (backend.name, backend.device, backend.synchronous) == ("cuda", "GPU 0", False)
    backend.synchronize()
    assert waited == ["stream"]
    assert (backend.mark(), backend.seconds_between("began", "ended"), backend.peak_memory()) == ("event", 1.5, 7)
    assert copy.deepcopy(backend) == pickle.loads(pickle.dumps(backend)) == backend


def test_on_cuda_each_is_launched_on_the_current_stream(monkeypatch) -> None:
    import xpnet_kernels.cuda

    launches, stream = [], SimpleNamespace(ptr=41)
    cupy = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: stream))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    kernels = CudaKernels()
    monkeypatch.setattr(
        xpnet_kernels.cuda, "sgd_update", lambda *args, **keywords: launches.append((args, keywords)), raising=False
    )
    kernels.sgd_update("values", finite=None)
    stream.ptr = 42
    kernels.sgd_update("values")
    assert launches == [(("values",), {"stream": 41, "finite": None}), (("values",), {"stream": 42})]
    assert getattr(kernels, "no_such_kernel", None) is None
