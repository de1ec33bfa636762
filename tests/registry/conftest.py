"""What the tests of the registry share."""

from __future__ import annotations

import pytest

from xpnet import registry


@pytest.fixture(autouse=True)
def _registered_for_one_test(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = {kind: dict(named) for kind, named in registry._CLASSES.items()}
    monkeypatch.setattr(registry, "_CLASSES", classes)
