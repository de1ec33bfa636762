"""Every public name says what it is, which errors it raises, and shows itself at work in an example that runs."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import pytest
import xpnet_kernels.cpu
import xpnet_kernels.cuda

import xpnet
from xpnet import errors

ERRORS = {name for name, thing in vars(errors).items() if inspect.isclass(thing) and issubclass(thing, xpnet.Error)}
CHECKERS = {"boolean", "positive_integer", "finite_number", "one_of", "require_moderate"}  # of a ConfigurationError


def names_of(module: ModuleType) -> list[str]:
    """``__all__``; without it, the functions and classes that the module defines."""
    own = [name for name, thing in vars(module).items() if getattr(thing, "__module__", None) == module.__name__]
    return getattr(module, "__all__", [name for name in own if not name.startswith("_")])


def collect(module: ModuleType, seen: set[str]) -> Iterator[tuple[str, Any]]:
    """(where it is defined, the thing) for the public functions and classes, those of public submodules included."""
    seen.add(module.__name__)
    for thing in (getattr(module, name) for name in names_of(module)):
        if inspect.ismodule(thing) and thing.__name__ not in seen:
            yield from collect(thing, seen)
        elif (inspect.isclass(thing) or inspect.isroutine(thing)) and thing is not Any:
            yield f"{thing.__module__}.{thing.__qualname__}", thing


PUBLIC = {name: thing for module in (xpnet, xpnet_kernels.cpu) for name, thing in collect(module, set())}
CLASSES = {name: thing for name, thing in PUBLIC.items() if inspect.isclass(thing)}


@cache
def examples_in(module: str) -> set[str]:
    """The names whose examples doctest finds in a module, and so runs where pytest collects it."""
    return {test.name for test in doctest.DocTestFinder().find(importlib.import_module(module)) if test.examples}


def words(documented: Any) -> str:
    """A docstring without its examples."""
    parts = doctest.DocTestParser().parse(documented.__doc__ or "")
    return "".join(part for part in parts if isinstance(part, str))


def function_of(member: Any) -> Any:
    return member.fget if isinstance(member, property) else getattr(member, "__func__", member)


def fields_of(cls: type) -> list[str]:
    if dataclasses.is_dataclass(cls):  # a training option describes itself, and docs/training-options.md lists them
        return [field.name for field in dataclasses.fields(cls) if "option" not in field.metadata]
    return list(getattr(cls, "_fields", ()))  # of a named tuple


def methods_of(cls: type) -> dict[str, Any]:
    """The methods and properties that a class defines, or a private class above it, which nobody else looks up."""
    above = [ancestor for ancestor in cls.__mro__ if ancestor is cls or ancestor.__name__.startswith("_")]
    members = {name: function_of(member) for ancestor in reversed(above) for name, member in vars(ancestor).items()}
    return {
        name: member for name, member in members.items() if inspect.isfunction(member) and name not in fields_of(cls)
    }


def raised_in(function: Any) -> set[str]:
    """The errors of xpnet that the body raises itself, or by a checker of :mod:`xpnet.errors`."""
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))))
    except OSError:  # what dataclasses generate has no source
        return set()
    raised = {ast.unparse(node.exc.func) for node in nodes if isinstance(node, ast.Raise) and called(node.exc)}
    checked = {ast.unparse(node.func) for node in nodes if called(node)} & CHECKERS
    return raised & ERRORS | ({"ConfigurationError"} if checked else set())


def called(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Call)


@pytest.mark.parametrize("name", PUBLIC)
def test_there_is_a_docstring_with_an_example_that_pytest_runs(name: str) -> None:
    thing = PUBLIC[name]
    assert words(thing).strip(), f"{name} has no docstring"
    assert name in examples_in(thing.__module__), f"the docstring of {name} has no example"


@pytest.mark.parametrize("name", CLASSES)
def test_public_methods_and_fields_are_documented(name: str) -> None:
    cls = CLASSES[name]
    bare = [method for method in methods_of(cls) if method[0] != "_" and not getattr(cls, method).__doc__]
    assert not bare, f"{name}: no docstring on {', '.join(bare)}"
    bare = [field for field in fields_of(cls) if not re.search(rf"^ +(\w+, )*{field}(, \w+)*:", words(cls), re.M)]
    assert not bare, f"{name}: the docstring does not say what {', '.join(bare)} is"


@pytest.mark.parametrize("name", PUBLIC)
def test_the_errors_that_are_raised_are_named(name: str) -> None:
    thing = PUBLIC[name]
    functions = methods_of(thing) if inspect.isclass(thing) else {name: thing}
    told = words(thing) + "".join(words(ancestor) for ancestor in getattr(thing, "__mro__", [object])[1:-1])
    for own, function in functions.items():
        also = words(function) if own[0] != "_" else "".join(map(words, functions.values()))
        untold = {error for error in raised_in(function) if error not in told + also}
        assert not untold, f"{own} of {name} raises {', '.join(untold)}, and no docstring says so"


@pytest.mark.parametrize("name", xpnet_kernels.cuda.__all__)
def test_kernels_for_cuda_are_documented(name: str) -> None:
    """Their examples are those of the CPU's kernels, which need no GPU."""
    assert words(getattr(xpnet_kernels.cuda, name)).strip()


def test_pytest_runs_the_examples(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.getoption("doctestmodules")
    assert {"xpnet", "kernels"} <= set(pytestconfig.getini("testpaths"))
