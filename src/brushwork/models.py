"""Models as the command line names them: a base, or ``BASE+ADAPTER@0.8``.

    model = open_model("mini+runs/2026-11-21-lora-1a2b@0.8")
    model.family, model.name, model.hash, model.adapters

BASE is ``mini``, a run folder, a diffusers folder, a ``.safetensors`` file or a hub id. ADAPTER is a LoRA: a run
folder, a ``.safetensors`` file, or a folder with ``pytorch_lora_weights.safetensors``; or it is an embedding, likewise
(``learned_embeds.safetensors``). A run may be given by its name, and brings all that it made. As a BASE it may be taken
as it was after a step: ``RUN@300``, ``RUN@best`` or ``RUN/checkpoints/300`` (see ``brushwork.snapshots``).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import adapters as loras
from brushwork import embeddings, families, runs, sampling, snapshots
from brushwork.errors import ModelError, listing, nearest
from brushwork.filehash import sha256

if TYPE_CHECKING:
    import torch

    from brushwork.adapters import Adapter
    from brushwork.runs import RunFolder
    from brushwork.settings import Sampling
    from brushwork.values import Family

HASH_DIGITS = 10
_FORM = "BASE+ADAPTER@WEIGHT, for example mini+my-lora@0.8"


@dataclass(frozen=True)
class AdapterSpec:
    """An adapter as it was asked for."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class ModelSpec:
    """A model as it was asked for."""

    text: str
    base: str
    adapters: tuple[AdapterSpec, ...] = ()


@dataclass(frozen=True)
class LoadedModel:
    """A family with its adapters applied. ``name`` is the base's, for the infotext."""

    spec: ModelSpec
    name: str
    family: Family
    path: Path
    """Where the base lies: its folder or its single file."""
    adapters: tuple[Adapter, ...]
    whole: Sampling | None = None
    """How a run that made a whole model was made to be drawn."""

    @property
    def sampling(self) -> Sampling | None:
        """How it was made to be drawn, where a part of it was made for something of its own, or the base is.

        Raises:
            ConfigError: Two parts of it want to be drawn differently.
        """
        agreed = sampling.agreed([self.whole, *(each.sampling for each in self.adapters)])
        return agreed or self.family.sampling

    @property
    def hashed(self) -> list[Path]:
        """The files that ``hash`` is taken over: the single file, or the denoiser's weights in a folder."""
        if self.path.is_file():
            return [self.path]
        folder = self.path / self.family.denoiser_name
        whole = folder / "diffusion_pytorch_model.safetensors"
        return [whole] if whole.is_file() else sorted(folder.glob("diffusion_pytorch_model-*.safetensors"))

    @functools.cached_property
    def hash(self) -> str:
        """The first ten hex digits of the SHA-256 of ``hashed``, as A1111 computes it for a single file."""
        return sha256(*self.hashed)[:HASH_DIGITS]


def parse(text: str) -> ModelSpec:
    """Read ``BASE+ADAPTER@WEIGHT+...``; a ``+`` or ``@`` in the path of an existing file is part of the path.

    Raises:
        ModelError: There is no base, or a weight is no number.
    """
    base, *rest = _split(text)
    if not base or not all(rest):
        message = f"model: {text!r} lacks a name. Write BASE or {_FORM}"
        raise ModelError(message)
    if "@" in base and not _exists(base) and snapshots.find(base) is None:
        message = f"model: {base!r}: only an adapter has a weight. Write {_FORM}"
        raise ModelError(message)
    return ModelSpec(text, base, tuple(parse_adapter(each) for each in rest))


def parse_adapter(text: str, separator: str = "@") -> AdapterSpec:
    """Read ``ADAPTER@WEIGHT``, or with another separator ``ADAPTER:WEIGHT``; without one the weight is 1.

    Raises:
        ModelError: The weight is no number.
    """
    name, found, number = text.rpartition(separator)
    if not found or _exists(text):
        return AdapterSpec(text)
    try:
        weight = float(number)
    except ValueError:
        weight = math.nan
    if not name or not math.isfinite(weight):
        example = f"{name or 'my-lora'}{separator}0.8"
        message = f"adapter: {number!r} in {text!r} is not a weight. Write a number, for example {example}"
        raise ModelError(message)
    return AdapterSpec(name, weight)


def open_model(
    text: str | ModelSpec,
    *,
    dtype: torch.dtype | None = None,
    device: str = "auto",
) -> LoadedModel:
    """Load a model and apply its adapters.

    Args:
        text: What ``parse`` reads, or its result.
        dtype: The weights' type in memory; float32 when not given.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        ModelError: A part does not exist, is not finished, or does not fit.
    """
    from brushwork.devices import resolve_device

    spec = parse(text) if isinstance(text, str) else text
    snapshot = snapshots.find(spec.base)
    run = as_run(spec.base) if snapshot is None else snapshot.run
    base, source, found = resolve(spec)
    asked, files = [each for each, _ in found], [paths for _, paths in found]
    place = resolve_device(device)
    if snapshot is not None:
        family = snapshots.load(snapshot, dtype=dtype, device=place)
    else:
        family = families.load(base, dtype=dtype, device=place, **source)
    for each in asked:
        if each.weight:
            _as_trained(family, each)
    applied = tuple(
        _attach(family, path, each, alone=len(paths) == 1)
        for each, paths in zip(asked, files, strict=True)
        for path in paths
    )
    name = snapshot.name if snapshot is not None else _name(spec.base if run is not None and not source else base)
    brings_itself = run is not None and (snapshot is not None or not source)
    whole = getattr(run.config.objective, "sampling", None) if run is not None and brings_itself else None
    return LoadedModel(spec, name, family, families.describe(base, **source).path, applied, whole)


def resolve(spec: ModelSpec) -> tuple[str, dict[str, Any], list[tuple[AdapterSpec, list[Path]]]]:
    """Return the base of a model, where it comes from, and the files of each adapter, a run's own first.

    Raises:
        ModelError: An adapter is not there, or a run is not finished.
    """
    snapshot = snapshots.find(spec.base)
    run = as_run(spec.base) if snapshot is None else snapshot.run
    asked, base, source = spec.adapters, spec.base, {}
    if run is not None:
        if snapshot is None and _is_pipeline(_artefacts(run)[0]):
            base = str(run.weights)
        else:
            base, source = run.config.base, {"revision": run.config.revision, "config": run.config.base_config}
            asked = asked if snapshot is not None else (AdapterSpec(str(run.path)), *asked)
    return base, source, [(each, adapter_files(each)) for each in asked]


def _attach(family: Family, path: Path, asked: AdapterSpec, *, alone: bool) -> Adapter:
    """Apply one file; a weight is meant for the LoRA where an embedding comes with it."""
    if embeddings.recognises(path):
        return embeddings.attach(family, path, _name(asked.text), asked.weight if alone else 1.0)
    return loras.attach(family, path, _name(asked.text), asked.weight)


def _as_trained(family: Family, adapter: AdapterSpec) -> None:
    """Draw with the prediction and the noise schedule that a run's adapter was trained with (zero terminal SNR ...)."""
    run = as_run(adapter.text)
    prepare = None if run is None else getattr(run.config.objective.build(), "prepare", None)
    if prepare is not None:
        prepare(family)


as_run = runs.named


def run_of(text: str) -> RunFolder | None:
    """Return the run that a model's text names, by itself or by a step of it; None where it names no run."""
    snapshot = snapshots.find(text)
    return as_run(text) if snapshot is None else snapshot.run


def sampling_of(spec: ModelSpec) -> Sampling | None:
    """Return how a model was made to be drawn, from what its files say: nothing is loaded.

    Raises:
        UserError: A part is not there, or two parts want to be drawn differently.
    """
    from safetensors import safe_open

    run, wanted = run_of(spec.base), []
    if run is not None:
        wanted.append(getattr(run.config.objective, "sampling", None))
    for path in (path for each in spec.adapters if each.weight for path in adapter_files(each)):
        with safe_open(path, framework="np") as file:
            wanted.append(sampling.read(file.metadata() or {}))
    return sampling.agreed(wanted)


def parts(text: str | ModelSpec) -> list[tuple[Path, float]]:
    """Return the files and folders that a model is made of, each with its strength; nothing is loaded.

    Raises:
        ModelError: A part does not exist or is not finished.
    """
    spec = parse(text) if isinstance(text, str) else text
    snapshot = snapshots.find(spec.base)
    run = as_run(spec.base) if snapshot is None else snapshot.run
    if run is None:
        found = [(families.describe(spec.base).path, 1.0)]
    else:
        config, made = run.config, _artefacts(run) if snapshot is None else [snapshot.path]
        below = [] if snapshot is None and _is_pipeline(made[0]) else [
            families.describe(config.base, revision=config.revision, config=config.base_config).path
        ]  # fmt: skip
        found = [(path, 1.0) for path in (*below, *made)]
    return found + [(path, each.weight) for each in spec.adapters for path in adapter_files(each)]


def installed() -> list[dict[str, Any]]:
    """Return what can be opened here without a network: embedded bases, runs, pipelines in the hub's cache."""
    found = [
        {"model": name, "kind": "embedded", "detail": ""}
        for name in families.EMBEDDED
        if (families.ASSETS / name / "model_index.json").is_file()
    ]
    for run in runs.find():
        detail = f"{run.config.method.type} on {run.config.base}, {run.record.get('status', 'created')}"
        found.append({"model": str(run.path), "kind": "run", "detail": detail})
    return found + [{"model": name, "kind": "hub", "detail": detail} for name, detail in _cached_pipelines()]


def _cached_pipelines() -> list[tuple[str, str]]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cached = scan_cache_dir()
    except CacheNotFound:
        return []
    pipelines = [
        (repo.repo_id, repo.size_on_disk_str)
        for repo in cached.repos
        if any(file.file_name == "model_index.json" for revision in repo.revisions for file in revision.files)
    ]
    return sorted(pipelines)


def _split(text: str) -> list[str]:
    """Split at ``+``, but keep the longest stretches that are files or folders here."""
    pieces = text.split("+")
    parts = []
    while pieces:
        heads = {count: "+".join(pieces[:count]) for count in range(len(pieces), 1, -1)}
        length = next((count for count, head in heads.items() if _exists(head) or _exists(_unweighted(head))), 1)
        parts.append("+".join(pieces[:length]).strip())
        pieces = pieces[length:]
    return parts


def _unweighted(text: str) -> str:
    """Return what stands before the ``@`` of a single adapter, else ""."""
    name, _, weight = text.rpartition("@")
    return "" if "+" in weight else name


def _exists(text: str) -> bool:
    return bool(text) and Path(text).expanduser().exists()


def _name(text: str) -> str:
    """Return a short name: a folder's or a file's own, a hub id as it is."""
    path = Path(text).expanduser()
    if path.is_dir():
        return path.resolve().name
    return path.stem if path.is_file() else text


def _is_pipeline(path: Path) -> bool:
    return path.is_dir()


ADAPTERS = (embeddings.WEIGHT_NAME, loras.WEIGHT_NAME, loras.PEFT_NAME)


def _artefacts(run: RunFolder) -> list[Path]:
    """Return what a run made: a pipeline folder, or its embedding and LoRA files.

    Raises:
        ModelError: The run is not finished, or made something else.
    """
    if (run.weights / "model_index.json").is_file():
        return [run.weights]
    files = [run.weights / name for name in ADAPTERS if (run.weights / name).is_file()]
    if files:
        return files
    held = sorted(each.name for each in run.weights.iterdir()) if run.weights.is_dir() else []
    if held:
        message = f"model: the run {str(run.path)!r} made {listing(held)}, which is no pipeline, LoRA or embedding."
        raise ModelError(message)
    steps = run.steps()
    done = steps[-1]["index"] if steps else 0
    status = run.record.get("status", "created")
    message = (
        f"model: the run {str(run.path)!r} has no weights yet: it is {status!r} at step {done}.\n"
        f"Go on with it: brushwork train --resume --out {run.path}"
    )
    raise ModelError(message)


def adapter_files(spec: AdapterSpec) -> list[Path]:
    """Return the files that an adapter's text names.

    Raises:
        ModelError: It is not there or is no adapter.
    """
    run = as_run(spec.text)
    if run is not None:
        artefacts = _artefacts(run)
        if _is_pipeline(artefacts[0]):
            message = f"adapter: the run {spec.text!r} made a whole model, not an adapter. Use it as the base."
            raise ModelError(message)
        return artefacts
    path = Path(spec.text).expanduser()
    if path.is_dir():
        held = [path / name for name in ADAPTERS if (path / name).is_file()]
        if held:
            return held
        path /= loras.WEIGHT_NAME
    if path.is_file() and path.suffix == ".safetensors":
        return [path]
    if path.is_file():
        message = (
            f"adapter: {spec.text!r} is not a .safetensors file; pickled weights can run code, so they stay shut.\n"
            f"Take the tensors out of it: brushwork convert-ckpt {spec.text} --out {path.with_suffix('.safetensors')}"
        )
        raise ModelError(message)
    known = [str(each.path) for each in runs.find()]
    hint = nearest(spec.text, known)
    message = f"adapter: there is no {str(path)!r}.{hint} An adapter is a run folder or a LoRA .safetensors file."
    raise ModelError(message)
