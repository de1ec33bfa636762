"""Hostile recipes."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import xpnet

SOURCES = [path.read_text() for path in sorted((Path(xpnet.__file__).parent / "recipes").glob("*.toml"))]
TABLES = [tomllib.loads(source) for source in SOURCES]
PIECES = [
    "[", "]", "[[", "]]", "{", "}", "=", '"', "'''", "#", ",", ".", "\\", "\n", "\r", "\x00", "\x7f", "\ufeff",
    "\u2028", "é", "a=", "1e999", "nan", "0o7", "true", "00:00", "name=", "x = 0x" + "f" * 5000, "x = " + "9" * 5000,
    "1979-05-27T07:32:00Z", "batch_size = 0x" + "f" * 5000 + "\n", "x = " + "[" * 3000, "x = " + "{a=" * 3000,
    "a." * 3000 + "a = 1", "[x]\n", "[model]\n", "[[model.layers]]\n", "layers = [", 'type = "Linear"\n',
    "epochs = -0\n", "a = {", "[[model.layers.layers]]\n",
]  # fmt: skip


def read(path: Path) -> xpnet.Recipe:
    """The recipe; what it describes can also be built, and asked for the shape of its outputs."""
    recipe = xpnet.load_recipe(str(path))
    recipe.to_table()
    if recipe.name != "digits":
        recipe.build_model().output_shape((28, 28))
    return recipe


def written(table: Any) -> bytes:
    """As TOML, which has no null, no integers of 400 digits in its writer's hands, and keys that are strings."""
    import tomli_w

    try:
        return tomli_w.dumps(table if isinstance(table, dict) else {"name": table}).encode("utf-8", "surrogatepass")
    except (TypeError, ValueError, RecursionError):
        return b"name = [" + repr(table).encode("utf-8", "replace")


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Recipes with pieces of TOML anywhere in them."""
    text = draw(st.sampled_from(["", *SOURCES]))
    for _ in range(draw(st.integers(1, 5))):
        lines = text.splitlines(keepends=True)
        place = draw(st.integers(0, len(lines)))
        piece = "".join(draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4)))
        text = "".join(
            [*lines[:place], piece + draw(st.sampled_from(["", "\n"])), *lines[place + draw(st.integers(0, 1)) :]]
        )
    return text.encode()


def in_objects(content: bytes) -> int:
    """Text becomes objects of Python's, of up to 400 times its size; twice what is given here is allowed."""
    return 200 * len(content)


def test_changed_bytes(fuzz: Any, mutated: Any) -> None:
    sources = [source.encode() for source in SOURCES]
    fuzz(mutated(*sources), read, SOURCES[3].encode(), in_objects, "mine.toml")


def test_hostile_texts(fuzz: Any) -> None:
    fuzz(texts(), read, SOURCES[3].encode(), in_objects, "mine.toml")


def test_hostile_values(fuzz: Any, misshapen: Any) -> None:
    tables = st.sampled_from(TABLES).flatmap(misshapen)
    fuzz(tables.map(written), read, SOURCES[3].encode(), in_objects, "mine.toml")
