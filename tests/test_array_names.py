"""Every ``xp.NAME(..., keyword=)`` in xpnet is there, with that keyword, in CuPy's namespace and in the standard.

So a call that NumPy takes and CuPy does not is found on a machine without a GPU: reading the source is enough.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

XPNET = Path(__file__).parents[1] / "xpnet"


class Use(NamedTuple):
    """An attribute of the array namespace, with the positional arguments and keywords of the call, if it is one."""

    name: str
    positional: int
    keywords: tuple[str, ...]
    called: bool


def is_namespace(node: ast.expr) -> bool:
    """``xp`` or ``….xp``."""
    return (isinstance(node, ast.Name) and node.id == "xp") or (isinstance(node, ast.Attribute) and node.attr == "xp")


def uses_in(source: str) -> Iterator[tuple[int, Use]]:
    """The line and the use, for each use of an array namespace."""
    tree = ast.parse(source)
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_namespace(node.value):
            call = calls.get(id(node))
            positional = sum(not isinstance(argument, ast.Starred) for argument in call.args) if call else 0
            keywords = tuple(keyword.arg for keyword in call.keywords if keyword.arg) if call else ()
            yield node.lineno, Use(node.attr, positional, keywords, call is not None)


USES: dict[Use, str] = {}
for path in sorted(XPNET.rglob("*.py")):
    for line, use in uses_in(path.read_text()):
        USES.setdefault(use, f"{path.relative_to(XPNET.parent)}:{line}")


def problem_in(namespace: ModuleType, use: Use) -> str | None:
    """What ``namespace`` lacks for this use; None when nothing can be said against it."""
    if not hasattr(namespace, use.name):
        return f"has no {use.name}"
    function = getattr(namespace, use.name)
    if not use.called:
        return None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled functions and ufuncs show none
        return None
    try:
        signature.bind_partial(*range(use.positional), **dict.fromkeys(use.keywords))
    except TypeError as error:
        return f"{use.name}{signature}: {error}"
    return None


def described(use: Use) -> str:
    arguments = ["_"] * use.positional + [f"{keyword}=" for keyword in use.keywords]
    return f"{use.name}({', '.join(arguments)})" if use.called else use.name


@pytest.mark.parametrize("use", USES, ids=described)
def test_every_array_function_used_is_in_the_standard(use: Use) -> None:
    import array_api_strict

    problem = problem_in(array_api_strict, use)
    assert problem is None, f"{USES[use]}: array_api_strict {problem}"


# Their results are as long as the values say, so that a GPU is waited for; array_api_compat's clip selects by a mask.
WAITING = {"clip", "nonzero", "unique_all", "unique_counts", "unique_inverse", "unique_values"}


def test_no_array_function_used_waits_for_a_gpu() -> None:
    assert not {place: use.name for use, place in USES.items() if use.name in WAITING}


@pytest.fixture(scope="module")
def cupy_namespace() -> ModuleType:
    if importlib.util.find_spec("cupy") is None:
        reason = "CuPy is not installed: 'make test-cuda-compile' installs it"
        if os.environ.get("XPNET_REQUIRE_CUDA_COMPILE"):
            pytest.fail(reason)
        pytest.skip(reason)
    return importlib.import_module("array_api_compat.cupy")


@pytest.mark.cuda_compile
@pytest.mark.parametrize("use", USES, ids=described)
def test_every_array_function_used_is_in_cupy(use: Use, cupy_namespace: ModuleType) -> None:
    problem = problem_in(cupy_namespace, use)
    assert problem is None, f"{USES[use]}: array_api_compat.cupy {problem}"


def test_the_uses_that_are_read_off_a_source() -> None:
    source = """
        x = backend.xp.sum(a, axis=0)
        xp.where(a, b, c, **more)
        self.xp.float32
        np.sum(a)
    """
    uses = [use for _, use in sorted(uses_in(inspect.cleandoc(source)))]
    assert uses == [Use("sum", 1, ("axis",), True), Use("where", 3, (), True), Use("float32", 0, (), False)]
    assert len(USES) > 20


@pytest.mark.parametrize(
    ("use", "wrong"),
    [
        (Use("sum", 1, ("axis",), True), False),
        (Use("float32", 0, (), False), False),
        (Use("sum", 1, ("axes",), True), True),
        (Use("where", 4, (), True), True),
        (Use("maximum_of", 2, (), True), True),
    ],
)
def test_a_use_that_does_not_fit_the_namespace_is_found(use: Use, wrong: bool) -> None:
    import array_api_strict

    assert (problem_in(array_api_strict, use) is not None) == wrong
