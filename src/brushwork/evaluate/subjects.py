"""What is evaluated: any MODEL beside what it was tuned from, with the prompts, the settings and the folder of it.

    subject = find("mini+my-lora.safetensors@0.8", prompts="old-books")
    subject = find("runs/2026-11-21-lora-1a2b")           # a run brings prompts, settings, data and base along
    subject = find("runs/2026-11-21-lora-1a2b@300")       # so does a step of it
    subject.open_base(), subject.open_tuned()

A ``Subject`` can be asked like a run folder, so that what measures runs and writes their reports does the same for any
model. ``subject.json`` in its folder holds the request; ``reopen`` reads it again.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from brushwork import config as configs
from brushwork import families, models, prompts, snapshots
from brushwork.config import PluginSettings
from brushwork.devices import resolve_device
from brushwork.errors import ConfigError, DataError, ModelError
from brushwork.models import LoadedModel, ModelSpec
from brushwork.pairs import hash_files
from brushwork.progress import note
from brushwork.runs import RunFolder, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from brushwork.config import Config
    from brushwork.settings import Sampling, ValidationConfig
    from brushwork.values import Family

FILE = "subject.json"
PLACE = Path("evaluations")
ADJUSTABLE = ("validation", "data.resolution")


class NoPictures(PluginSettings):
    """Stands for the data of a model that does not say what it was trained on."""

    type: Literal["none"] = "none"
    resolution: int | None = None
    background: str = "white"

    def build(self) -> Any:
        """Say that there are none.

        Raises:
            DataError: Always.
        """
        message = "this model does not say what it was trained on. Name pictures to measure beside with --references"
        raise DataError(message)


@dataclass(frozen=True)
class Asked:
    """What was asked for, as in ``brushwork evaluate``: paths, names, ``validation.key=value`` texts."""

    model: str
    against: str | None = None
    prompts: str | None = None
    references: str | None = None
    overrides: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether nothing but the model is named."""
        return self == Asked(self.model)


class Subject(RunFolder):
    """A model, what it is held against, and where its evaluation is written."""

    def __init__(self, asked: Asked, config: Config, path: Path, run: RunFolder | None) -> None:
        self.asked, self.path, self.run = asked, path, run
        self.against = asked.against
        self._config = config

    @property
    def is_own_run(self) -> bool:
        """Whether this is a run evaluated in its own folder, as it asks to be."""
        return self.run is not None and self.run.path == self.path

    @property
    def config(self) -> Config:
        """The configuration whose ``validation``, ``data`` and base are used."""
        return self._config

    @property
    def record(self) -> dict[str, Any]:
        """What is known of the training, and of this evaluation."""
        known = self.run.record if self.run is not None else {}
        stored = _stored(self.path) if not self.is_own_run else {}
        return {**known, **stored.get("record", {})}

    def update(self, **changes: Any) -> None:
        """Change keys of the record: the run's, or that of this evaluation."""
        if self.is_own_run:
            super().update(**changes)
            return
        stored = _stored(self.path)
        write_json(self.path / FILE, {**stored, "record": {**stored.get("record", {}), **changes}})

    def steps(self) -> list[dict[str, Any]]:
        """Return the logged steps of the run, if there is one."""
        return self.run.steps() if self.run is not None else []

    @property
    def weights(self) -> Path:
        """Where the run's artefact lies."""
        return self.run.weights if self.run is not None else self.path / "weights"

    @property
    def drawn_with(self) -> Sampling | None:
        """How the model was made to be drawn, where the configuration does not know it."""
        return None if self.is_own_run else models.sampling_of(models.parse(self.asked.model))

    def write(self) -> None:
        """Write down what was asked, for ``reopen``; a run in its own folder needs no such note."""
        if not self.is_own_run:
            wanted = {
                "asked": asdict(self.asked), "against": self.against,
                "resolution": self.config.data.resolution,  # type: ignore[attr-defined]
                "validation": self.config.validation.model_dump(mode="json"),
            }  # fmt: skip
            write_json(self.path / FILE, {**_stored(self.path), **wanted})

    @property
    def device(self) -> str:
        """Where it is drawn."""
        return self.config.train.device

    def open_base(self, device: str | None = None) -> LoadedModel:
        """Load what the model is held against."""
        if self.against is not None:
            return models.open_model(self.against, device=device or self.device)
        config = self.config
        source = {"revision": config.revision, "config": config.base_config}
        family: Family = families.load(config.base, device=resolve_device(device or self.device), **source)  # type: ignore[arg-type]
        path = families.describe(config.base, **source).path
        return LoadedModel(ModelSpec(config.base, config.base), config.base, family, path, ())

    def open_tuned(self, device: str | None = None) -> LoadedModel:
        """Load the model."""
        return models.open_model(self.asked.model, device=device or self.device)

    @functools.cached_property
    def base_key(self) -> str | None:
        """A hash of the weights of what it is held against; None when it is not known."""
        if self.against is None:
            known: str | None = self.record.get("base", {}).get("hash")
            return known
        return key_of(self.against)

    @functools.cached_property
    def tuned_key(self) -> str | None:
        """A hash of the model's weights; None when it is not known."""
        if self.is_own_run:
            return f"{self.base_key}+{hash_files(self.weights)}" if self.base_key else None
        return key_of(self.asked.model)


def _stored(folder: Path) -> dict[str, Any]:
    path = folder / FILE
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def key_of(model: str) -> str:
    """Return a hash of everything that a model draws with: its files, and its adapters with their weights.

    Raises:
        ModelError: A part is not there.
    """
    spec = models.parse(model)
    parts = [_base_key(spec.base)]
    for each in spec.adapters:
        parts += [f"{hash_files(path)}@{each.weight:g}" for path in models.adapter_files(each)]
    return "+".join(parts)


def _base_key(text: str) -> str:
    snapshot = snapshots.find(text)
    run = models.as_run(text) if snapshot is None else snapshot.run
    if run is None:
        return hash_files(families.describe(text).path)
    config = run.config
    if snapshot is None and (run.weights / "model_index.json").is_file():
        return hash_files(run.weights)
    base = families.describe(config.base, revision=config.revision, config=config.base_config).path
    return f"{hash_files(base)}+{hash_files(run.weights if snapshot is None else snapshot.path)}"


def find(
    model: str,
    *,
    against: str | None = None,
    prompts: str | None = None,
    references: str | None = None,
    overrides: Sequence[str] = (),
    out: Path | None = None,
) -> Subject:
    """Find what a request is about, without loading a network, but for a size that nobody says.

    Args:
        model: What ``brushwork.models.parse`` reads.
        against: What it is held against; default: what it was tuned from, if it says.
        prompts: A file of prompts or of sets of them, or an embedded name; default: the run's own.
        references: A folder or data set of pictures that it is to resemble; default: what the run was trained on.
        overrides: ``validation.key=value`` or ``data.resolution=512``.
        out: Where everything is written; default: the run's folder for a run as it is, else below ``evaluations/``.

    Raises:
        UserError: Something is not there, or nobody says what to draw or to compare with.
    """
    asked = Asked(model, against, prompts, references, tuple(overrides))
    spec = models.parse(model)
    snapshot, run = snapshots.find(spec.base), models.run_of(spec.base)
    if run is not None and snapshot is None and not spec.adapters and asked.is_plain:
        return Subject(asked, run.config, out or run.path, run)
    related = run or next((found for each in spec.adapters if (found := models.as_run(each.text))), None)
    held_against = against or _tuned_from(spec, run)
    if related is None and prompts is None:
        message = (
            f"--prompts: {model!r} is no run, so nobody says what to draw. Name a text file with a prompt a line, a "
            f"file of sets, or one of the embedded: {', '.join(_named())}."
        )
        raise ConfigError(message)
    place = out or PLACE / _slug(asked)
    config = _config(asked, related, held_against, place)
    subject = Subject(asked, config, place, related)
    subject.against = None if run is not None and held_against is None else held_against
    return subject


def reopen(folder: Path) -> Subject:
    """Return the subject of an evaluation that lies in a folder.

    Raises:
        ModelError: There is none.
    """
    stored = _stored(folder)
    if not stored:
        message = f"{str(folder)!r} holds neither a run (config.yaml) nor an evaluation ({FILE})."
        raise ModelError(message)
    asked = Asked(**{**stored["asked"], "overrides": tuple(stored["asked"]["overrides"])})
    related = models.run_of(models.parse(asked.model).base)
    config = related.config if related is not None else _bare(stored["against"] or "mini", stored["resolution"])
    config = _with_references(config, asked.references)
    subject = Subject(asked, config, folder, related)
    subject.against = stored["against"]
    validation: ValidationConfig = type(config.validation).model_validate(stored["validation"])
    subject._config = config.model_copy(update={"validation": validation})  # noqa: SLF001  (made here)
    return subject


def _named() -> list[str]:
    return [name for name in prompts.embedded() if (prompts.EMBEDDED / f"{name}.yaml").is_file()]


def _slug(asked: Asked) -> str:
    """Return a folder's name for a request."""
    words = [asked.model, *(Path(each).stem for each in (asked.prompts,) if each)]
    if asked.against:
        words += ["against", asked.against]
    return re.sub(r"[^\w.@+-]+", "-", "-".join(words)).strip("-.")[-80:]


def _tuned_from(spec: ModelSpec, run: RunFolder | None) -> str | None:
    """Return what a model says it was tuned from; None for a run, whose configuration says it.

    Raises:
        ConfigError: It does not say.
    """
    if spec.adapters:
        return spec.base
    if run is not None:
        return None
    path = Path(spec.base).expanduser()
    told = next((found for each in (path, path.parent) if (found := _card_of(each))), None)
    if told is None:
        message = (
            f"--against: {spec.text!r} does not say what it was tuned from. Name it: --against BASE, for example "
            f"--against {'mini' if spec.base == 'mini' else 'stable-diffusion-v1-5/stable-diffusion-v1-5'}"
        )
        raise ConfigError(message)
    return told


def _card_of(folder: Path) -> str | None:
    """Return what a model folder says it was tuned from: a run's configuration, or `base_model` in a model card."""
    if (folder / "config.yaml").is_file() and (folder / "run.json").is_file():
        return str(RunFolder(folder).config.base)
    card = folder / "README.md"
    head = re.match(r"---\n(.*?)\n---", card.read_text("utf-8"), re.DOTALL) if card.is_file() else None
    if head is None:
        return None
    try:
        tree = yaml.safe_load(head.group(1))
    except yaml.YAMLError:
        return None
    told = tree.get("base_model") if isinstance(tree, dict) else None
    return str(told[0] if isinstance(told, list) and told else told) if told else None


def _bare(base: str, resolution: int | None) -> Config:
    """Return the configuration of a model that no run made."""
    config = configs.load({"base": base, "data": {"path": "."}})
    return config.model_copy(update={"data": NoPictures(resolution=resolution)})


def _config(asked: Asked, related: RunFolder | None, against: str | None, place: Path) -> Config:
    """Return the configuration to evaluate with: the related run's or a bare one, with what was asked for."""
    sets = prompts.read_sets(asked.prompts) if asked.prompts is not None else None
    validation, resolution = _adjusted(asked, related)
    if related is not None:
        config = related.config
    else:
        assert against is not None, "a model that no run made has been asked what it was tuned from"
        config = _bare(against, resolution or _stored(place).get("resolution") or _own_size(against))
    if sets is not None:
        held_out = sets.held_out or tuple(prompts.resolve(validation.control_prompts, key="validation.control_prompts"))
        if not sets.held_out and set(held_out) & {*sets.target, *sets.content}:
            held_out = ()
        changes = {"prompts": sets.target, "content_prompts": sets.content, "control_prompts": held_out}
        validation = validation.model_copy(update=changes)
    config = config.model_copy(update={"validation": validation})
    if resolution is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"resolution": resolution})})
    return _with_references(config, asked.references)


def _adjusted(asked: Asked, related: RunFolder | None) -> tuple[ValidationConfig, int | None]:
    """Return the settings with the overrides laid over them, and a resolution if one was asked for."""
    strange = [text for text in asked.overrides if not text.startswith(("validation.", "data.resolution="))]
    if strange:
        message = f"{strange[0]!r}: an evaluation reads {' and '.join(ADJUSTABLE)} only; all else is the model's own."
        raise ConfigError(message)
    below = related.config.validation.model_dump(mode="json") if related is not None else {}
    loaded = configs.load({"data": {"path": "."}, "validation": below}, overrides=asked.overrides)
    return loaded.validation, loaded.data.resolution  # type: ignore[attr-defined]


def _with_references(config: Config, references: str | None) -> Config:
    if references is None:
        return config
    resolution = config.data.resolution  # type: ignore[attr-defined]
    tree = {"type": "captioned", "path": references, "allow_bad_captions": True, "resolution": resolution}
    data = configs.load({"data": tree}).data
    data.build()  # a folder that is not there is a mistake to hear of before anything is drawn
    return config.model_copy(update={"data": data})


def _own_size(base: str) -> int:
    note(f"loading {base} for its size (data.resolution=... would say it)")
    return models.open_model(base).family.resolution
