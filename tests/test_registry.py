"""Plug-ins are found by file name, and imported only when they are asked for."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from brushwork import registry
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

AXES = get_args(registry.Axis)
PACKAGE = Path(registry.__file__).parent


@pytest.fixture
def _fresh() -> Iterator[None]:
    registry._modules.cache_clear()
    yield
    registry._modules.cache_clear()


@pytest.mark.parametrize("axis", AXES)
def test_the_names_of_an_axis_are_its_files(axis: registry.Axis) -> None:
    files = {path.stem for path in (PACKAGE / axis).glob("*.py")} - {"__init__"}
    assert registry.names(axis) == sorted(files)


@pytest.mark.parametrize("axis", ["methods", "sources", "objectives"])
def test_every_configurable_plug_in_has_a_config_whose_type_is_its_name(axis: registry.Axis) -> None:
    for name in registry.names(axis):
        config = registry.load(axis, name).Config
        assert config.model_fields["type"].default == name
        assert "build" in config.__dict__, f"{name} does not say how it is built"


def test_naming_plug_ins_imports_none_of_them() -> None:
    code = (
        "import sys; from brushwork import registry;"
        "names = [registry.names(axis) for axis in ('families', 'methods', 'sources', 'objectives', 'metrics')];"
        "assert any(names);"
        "print([name for name in sys.modules if name.startswith('brushwork.') and name.count('.') > 1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_misspelt_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"There is no method named 'lroa'\. Did you mean lora\?"):
        registry.load("methods", "lroa")
    with pytest.raises(ConfigError, match="There is no family named 'ds'"):
        registry.load("families", "ds")


@pytest.mark.usefixtures("_fresh")
def test_a_third_party_adds_a_plug_in_by_an_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("theirs", "json", "brushwork.methods")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == point.group else [])
    assert "theirs" in registry.names("methods")
    assert registry.load("methods", "theirs").__name__ == "json"
    assert "theirs" not in registry.names("sources")


@pytest.mark.usefixtures("_fresh")
def test_a_third_party_cannot_replace_a_plug_in_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    point = importlib.metadata.EntryPoint("lora", "json", "brushwork.methods")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point] if group == point.group else [])
    assert registry.load("methods", "lora").__name__ == "brushwork.methods.lora"
