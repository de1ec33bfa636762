"""What pyright, and so an editor, knows of xpnet: the type of each public name, and mistakes where there are some."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import xpnet

HERE = Path(__file__).parent
MISTAKES = (HERE / "mistakes.py").read_text()
SCRIPT = (HERE / "uses_public_names.py").read_text()


class Revealing(ast.NodeTransformer):
    """Puts ``reveal_type`` around calls, attributes and items, but not around a base class or an annotation."""

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.ClassDef):
            node.body = [self.visit(part) for part in node.body]
            return node
        if isinstance(node, (ast.arguments, ast.ExceptHandler)):
            return node
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            node.value = self.visit(node.value)
            return node
        self.generic_visit(node)
        if isinstance(node, (ast.Call, ast.Attribute, ast.Subscript)):
            return ast.Call(ast.Name("reveal_type"), [node], [])
        return node


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """By file, what pyright reports. From another folder: it finds xpnet as the interpreter does, like a user's."""
    if importlib.util.find_spec("pyright") is None:
        if os.environ.get("XPNET_REQUIRE_PYRIGHT"):
            pytest.fail("pyright is not installed: pip install -e '.[dev]'")
        pytest.skip("pyright is not installed (it is in the extra dev)")
    folder = tmp_path_factory.mktemp("user")
    files = {
        "mistakes": MISTAKES,
        "script": SCRIPT,
        "expressions": ast.unparse(ast.fix_missing_locations(Revealing().visit(ast.parse(SCRIPT)))),
        "names": "import xpnet\n" + "".join(f"reveal_type(xpnet.{name})\n" for name in xpnet.__all__),
    }
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "."]
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    environment = os.environ | {"PYTHONPATH": path, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stdout + result.stderr  # 1: it found errors
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in files}
    for report in json.loads(result.stdout)["generalDiagnostics"]:
        found[Path(report["file"]).stem].append(report)
    return found


def types_in(reports: list[dict[str, Any]]) -> dict[str, str]:
    """By expression, the type that ``reveal_type`` tells; nothing else may be reported."""
    found = {}
    for report in reports:
        told = re.fullmatch(r'Type of "(.*)" is "(.*)"', report["message"], re.DOTALL)
        assert told is not None, report
        found[told[1]] = told[2]
    return found


def test_every_public_name_has_a_type(reports: dict[str, list[dict[str, Any]]]) -> None:
    types = types_in(reports["names"])
    assert types.keys() == {f"xpnet.{name}" for name in xpnet.__all__}
    assert types["xpnet.Linear"] == "type[Linear]"
    assert types["xpnet.data"] == 'Module("xpnet.data")'
    assert not {name for name, type_ in types.items() if type_ == "Any" or "Unknown" in type_}


def test_a_users_script_has_no_error(reports: dict[str, list[dict[str, Any]]]) -> None:
    assert len(set(re.findall(r"xpnet\.(\w+)", SCRIPT)) & set(xpnet.__all__)) >= 30
    assert reports["script"] == []


def test_no_expression_of_it_is_any(reports: dict[str, list[dict[str, Any]]]) -> None:
    types = types_in(reports["expressions"])
    assert len(types) > 80
    assert not {expression for expression, type_ in types.items() if type_ == "Any" or "Unknown" in type_}


def test_the_script_runs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, HERE / "uses_public_names.py", tmp_path], check=True, capture_output=True)


def test_mistakes_are_reported_where_they_are(reports: dict[str, list[dict[str, Any]]]) -> None:
    marked = enumerate(MISTAKES.splitlines()[1:], start=1)
    expected = [(line, rule[1]) for line, text in marked if (rule := re.search(r"# (report\w+)$", text))]
    assert len(expected) == 8
    assert [(report["range"]["start"]["line"], report["rule"]) for report in reports["mistakes"]] == expected
