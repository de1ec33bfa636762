"""The number of threads: the process's CPUs, or what the environment variable says."""

from __future__ import annotations

import os

import pytest
from xpnet_kernels.cpu.threads import limit


def test_the_limit_is_the_cpus_of_the_process_or_the_variable(monkeypatch):
    monkeypatch.delenv(limit.THREADS_VARIABLE, raising=False)
    if hasattr(os, "sched_getaffinity"):
        assert limit.thread_limit() == len(os.sched_getaffinity(0))
    monkeypatch.setenv(limit.THREADS_VARIABLE, "7")
    assert limit.thread_limit() == 7


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_an_invalid_limit_is_an_error(monkeypatch, text):
    monkeypatch.setenv(limit.THREADS_VARIABLE, text)
    with pytest.raises(ValueError, match=f"XPNET_NUM_THREADS must be a whole number of at least 1, not '{text}'"):
        limit.thread_limit()
