"""Every method x source x objective that makes sense, from ``rows.py``: what moves, what is saved, how it goes on."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import rows
import torch

from brushwork import config as configs
from brushwork import generate, models
from brushwork.errors import UserError
from brushwork.runs import RunFolder
from brushwork.train import Step, Trainer, prepare

if TYPE_CHECKING:
    from brushwork.config import Config
    from brushwork.values import Family

SAME = 1
"""So far may a pixel of 0 to 255 be off when the weights of an adapter were added up in another order."""
ALIKE = ("dreambooth-lora", "loha", "lokr", "oft")
"""Adapters that train, save and go on by the code of ``lora`` and ``dora``; left to `make test-all`."""
NAMED = [pytest.param(name, marks=[pytest.mark.thorough] * (name in ALIKE)) for name in (*rows.PRESETS, *rows.OPTIONS)]


def cells() -> list[rows.Cell]:
    """Return the combinations that make sense and that no preset is."""
    presets = [rows.preset(name, "base", Path("data")) for name in rows.PRESETS]
    covered = {(each.method.type, each.data.type, each.objective.type) for each in presets}
    return sorted(cell for cell in rows.known() - covered if not rows.refused(cell))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the whole module: the data, and the caches of whoever trains on them."""
    folder = tmp_path_factory.mktemp("matrix")
    rows.make_data(folder / "data")
    return folder


@pytest.fixture(autouse=True)
def _one_cache(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRUSHWORK_CACHE", str(shared / "cache"))


def tensors(family: Family) -> dict[str, torch.Tensor]:
    """Return every tensor of the model, as it is."""
    modules = {"denoiser": family.denoiser, "vae": family.vae, **family.text_encoders}
    return {
        f"{part}.{name}": tensor
        for part, module in modules.items()
        for name, tensor in module.state_dict(keep_vars=True).items()
    }


def picture(family: Family) -> np.ndarray[Any, Any]:
    request = generate.Request(rows.PROMPT, seed=3, steps=2, sampler="DDIM", guidance_scale=2.0)
    return np.asarray(next(generate.draw(family, [request])).image, float)


def files(run: RunFolder) -> dict[str, bytes]:
    return {str(path.relative_to(run.weights)): path.read_bytes() for path in run.weights.rglob("*.safetensors")}


def check(config: Config, folder: Path) -> None:
    """Train, open what was saved, and train the last steps again from the checkpoint before them."""
    whole = RunFolder.create(config, folder / "whole")
    trainer = prepare(config)
    course, tuned = check_what_moves(trainer, whole)
    check_what_is_saved(trainer, whole, tuned)

    resumed = RunFolder.create(config, folder / "resumed")
    shutil.copytree(whole.path / "checkpoints" / str(rows.SAVED), resumed.path / "checkpoints" / str(rows.SAVED))
    assert [of(step) for step in prepare(config).steps(resumed)] == course[rows.SAVED :]
    assert files(resumed) == files(whole) != {}


def of(step: Step) -> tuple[Any, ...]:
    """Return what must be the same when a step is done again."""
    return step.index, step.losses, step.lr, step.grad_norm


def check_what_moves(trainer: Trainer, run: RunFolder) -> tuple[list[tuple[Any, ...]], np.ndarray[Any, Any]]:
    """Exactly the declared tensors move, and the picture with them; the optimizer knows no others."""
    every = tensors(trainer.family)
    before, plain = {name: tensor.detach().clone() for name, tensor in every.items()}, picture(trainer.family)
    ids = {id(parameter) for parameter in trainer.named.values()}
    assert {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]} == ids
    course = [of(step) for step in trainer.steps(run)]
    after = tensors(trainer.family)
    assert after.keys() == before.keys()
    declared = {name for name, tensor in after.items() if id(tensor) in ids}
    assert len(declared) == len(ids), "a declared tensor is no part of the model"
    assert {name for name, tensor in after.items() if not torch.equal(tensor, before[name])} == declared

    tuned = picture(trainer.family)
    assert np.abs(tuned - plain).max() > 2 * SAME
    with trainer.method.disabled():
        assert np.abs(picture(trainer.family) - plain).max() <= SAME
    assert np.array_equal(picture(trainer.family), tuned)
    return course, tuned


def check_what_is_saved(trainer: Trainer, run: RunFolder, tuned: np.ndarray[Any, Any]) -> None:
    """Opened from the disk it draws the same picture, and nothing is saved that was not made."""
    opened = models.open_model(str(run.path), device="cpu")
    assert np.abs(picture(opened.family) - tuned).max() <= SAME
    if trainer.method.artefact:
        assert {each.name for each in run.weights.iterdir()} == {trainer.method.artefact}
    size = sum(map(len, files(run).values()))
    trained = sum(parameter.numel() * parameter.element_size() for parameter in trainer.named.values())
    assert trainer.method.updates_base or size < 2 * trained + 100_000


@pytest.mark.parametrize("name", NAMED)
def test_a_preset_moves_what_it_declares_draws_the_same_when_opened_and_resumes_exactly(
    name: str, tiny_sd: Path, shared: Path, tmp_path: Path
) -> None:
    check(rows.preset(name, tiny_sd, shared / "data"), tmp_path)


def pairs(cell: rows.Cell) -> set[tuple[int, int, str, str]]:
    """Return each two of a combination's three choices."""
    return {(one, two, cell[one], cell[two]) for one, two in itertools.combinations(range(3), 2)}


def marked() -> list[Any]:
    """Return the combinations; those whose choices have all met by twos, in presets or others, are thorough tests."""
    presets = [rows.preset(name, "base", Path("data")) for name in rows.PRESETS]
    met = {pair for each in presets for pair in pairs((each.method.type, each.data.type, each.objective.type))}
    found = []
    for cell in cells():
        found.append(pytest.param(cell, marks=[] if pairs(cell) - met else [pytest.mark.thorough], id=" x ".join(cell)))
        met |= pairs(cell)
    return found


@pytest.mark.parametrize("cell", marked())
def test_a_combination_moves_what_it_declares_draws_the_same_when_opened_and_resumes_exactly(
    cell: rows.Cell, tiny_sd: Path, shared: Path, tmp_path: Path
) -> None:
    check(rows.combination(cell, tiny_sd, shared / "data"), tmp_path)


def test_a_combination_that_makes_no_sense_is_refused(tiny_sd: Path, shared: Path) -> None:
    for cell in sorted(cell for cell in rows.known() if rows.refused(cell)):
        with pytest.raises(UserError, match=rows.refused(cell)):
            prepare(rows.combination(cell, tiny_sd, shared / "data"), encode=False)


def test_the_table_has_every_preset_and_plug_in_and_no_others() -> None:
    """A new one needs a line in ``rows.py``."""
    assert set(rows.PRESETS) == set(configs.presets())
    registered = tuple(set(names) for names in zip(*rows.every_cell(), strict=True))
    assert (set(rows.METHODS), set(rows.SOURCES), set(rows.OBJECTIVES)) == registered
    assert [key for key in rows.REFUSED if not any(rows.fits(cell, key) for cell in rows.every_cell())] == []
