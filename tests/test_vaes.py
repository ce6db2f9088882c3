"""Another VAE in place of a model's own: any of the same shape, in either naming, and nothing else."""

from __future__ import annotations

import copy
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from original import write_single_file
from safetensors.torch import load_file, save_file

from brushwork import families, vaes
from brushwork.errors import ModelError
from brushwork.serve.catalogue import Catalogue
from brushwork.serve.settings import ServeConfig

if TYPE_CHECKING:
    from pathlib import Path


def other(family: Any) -> Any:
    vae = copy.deepcopy(family.vae)
    with torch.no_grad():
        for weight in vae.parameters():
            weight.add_(0.01)
    return vae


def test_a_folder_or_a_file_takes_the_place_of_the_vae(tiny_sd: Path, tmp_path: Path) -> None:
    expected = other(families.load(str(tiny_sd)))
    expected.save_pretrained(tmp_path / "folder")
    for path in (tmp_path / "folder", tmp_path / "folder" / vaes.WEIGHTS):
        family = families.load(str(tiny_sd))
        before = family.vae_fingerprint
        used = vaes.put(family, path)
        assert used.name == path.name.removesuffix(".safetensors")
        assert len(used.hash) == vaes.SHORT
        assert family.vae_fingerprint != before
        for name, value in expected.state_dict().items():
            assert torch.equal(family.vae.state_dict()[name], value)
        assert not family.vae.training


def test_the_names_of_the_original_code_are_read(tiny_sd: Path, tmp_path: Path) -> None:
    family = families.load(str(tiny_sd))
    family.vae = other(family)
    weights = load_file(write_single_file(family.pipeline(), tmp_path / "whole.safetensors"))
    whole = tmp_path / "vae.safetensors"
    prefix = "first_stage_model."
    save_file({name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}, whole)
    family = families.load(str(tiny_sd))
    vaes.put(family, whole)
    expected = other(families.load(str(tiny_sd))).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in family.vae.state_dict().items())


def test_the_catalogue_tells_vaes_from_models(tiny_sd: Path, tmp_path: Path) -> None:
    vae: Any = families.load(str(tiny_sd)).vae
    vae.save_pretrained(tmp_path / "models" / "folder")
    save_file(vae.state_dict(), tmp_path / "models" / "single.safetensors")
    shutil.copytree(tiny_sd, tmp_path / "models" / "whole")
    (tmp_path / "models" / "config.json").symlink_to(tmp_path / "models" / "nowhere")
    (tmp_path / "models" / "list").mkdir()
    (tmp_path / "models" / "list" / "config.json").write_text("[1, 2]")
    catalogue = Catalogue(ServeConfig(models=(tmp_path / "models",), runs=tmp_path / "runs"))
    assert sorted(each.name for each in catalogue.all("vae")) == ["folder", "single"]
    assert [each.name for each in catalogue.all("model")] == ["mini", "whole"]


def test_what_does_not_fit_is_refused(tiny_sd: Path, tmp_path: Path) -> None:
    family = families.load(str(tiny_sd))
    family.vae.save_pretrained(tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config | {"scaling_factor": 0.3}))
    with pytest.raises(ModelError, match=r"scaling_factor 0\.3, but the model was trained with 0\.18215"):
        vaes.put(family, tmp_path / "folder")
    weights = load_file(tmp_path / "folder" / vaes.WEIGHTS)
    removed = min(weights)
    del weights[removed]
    save_file(weights | {"more": torch.zeros(2)}, tmp_path / "less.safetensors")
    with pytest.raises(ModelError, match="lacks 1 weights of its VAE and has 1 others"):
        vaes.put(family, tmp_path / "less.safetensors")
    save_file(load_file(tmp_path / "folder" / vaes.WEIGHTS) | {removed: torch.zeros(7)}, tmp_path / "wide.safetensors")
    with pytest.raises(ModelError, match="lacks 1 weights"):
        vaes.put(family, tmp_path / "wide.safetensors")
    (tmp_path / "text.safetensors").write_text("no weights")
    with pytest.raises(ModelError, match="cannot be read as safetensors"):
        vaes.put(family, tmp_path / "text.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        vaes.put(family, tmp_path / "empty")
