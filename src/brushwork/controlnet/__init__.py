"""ControlNets: a second network that sees a map (edges, depth ...) and steers the denoiser towards it.

    network = networks.load(Path("controlnet/canny"), family)
    Request("a house", controls=(Control(network, photo, module=Module("canny"), weight=0.8),))

Zhang et al. 2023, arXiv:2302.05543: a trainable copy of the denoiser's encoder, whose outputs are added to those of the
original through convolutions that began at zero. The picture is the one that diffusers' ControlNet pipelines draw at
the same noise. Several controls add up.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from brushwork.controlnet.maps import RESIZE_MODES, Module, ResizeMode
from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    import PIL.Image
    from torch import nn

Mode = Literal["balanced", "guess", "prompt", "control"]
MODES: tuple[Mode, ...] = ("balanced", "guess", "prompt", "control")
"""``guess``: only the prediction with the prompt is steered, its early layers less (diffusers' ``guess_mode``).
``prompt`` and ``control``: the prompt, or the ControlNet, is more important, as A1111's extension has it: in both the
layer i of a UNet counts 0.825 ^ (12 - i), and with ``control`` only the prediction with the prompt is steered."""
CLASSES = (
    "ControlNetModel",
    "ControlNetUnionModel",
    "SD3ControlNetModel",
    "FluxControlNetModel",
    "QwenImageControlNetModel",
    "SanaControlNetModel",
    "ZImageControlNetModel",
)
"""diffusers' classes of ControlNets that a family takes."""
MOST_WEIGHT = 2.0
_RESIZE_WORDS = dict(zip(RESIZE_MODES, ("Just Resize", "Crop and Resize", "Resize and Fill"), strict=True))
_CONTROL_WORDS = {
    "balanced": "Balanced",
    "guess": "Guess",
    "prompt": "My prompt is more important",
    "control": "ControlNet is more important",
}


@dataclass(frozen=True)
class Network:
    """A loaded ControlNet.

    Args:
        name: For people and the infotext.
        module: Of diffusers' class for the family (``ControlNetModel``, ``FluxControlNetModel`` ...), frozen, where the
            denoiser is.
        hash: The first eight hex digits of the SHA-256 of its weights' file, as A1111 shows it.
    """

    name: str
    module: nn.Module = field(repr=False)
    hash: str = ""

    @property
    def config(self) -> Mapping[str, Any]:
        """Its shape, as diffusers writes it."""
        config: Mapping[str, Any] = self.module.config  # type: ignore[assignment]
        return config


@dataclass(frozen=True)
class Control:
    """One ControlNet at work on one picture.

    Args:
        network: From ``networks.load``.
        image: What the map is made of; with module ``none`` it is the map. It is brought to the picture's size.
        weight: What the network says is multiplied by this, 0 (as if it were not there) to 2.
        start: From which part of the steps on it steers, from 0; as diffusers' ``control_guidance_start``.
        end: Up to which part, to 1.
        mode: One of ``MODES``; a base with a transformer has ``balanced``.
        resize_mode: For an image of other proportions: ``crop`` (cut at the longer side), ``stretch``, or ``fill``
            (margins in the median colour of its border).
        module: How the map is made of the image.
        union: Of a network for several sorts of maps (SDXL, FLUX): which one this is, as its maker numbers them.
    """

    network: Network
    image: PIL.Image.Image = field(repr=False)
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0
    mode: Mode = "balanced"
    resize_mode: ResizeMode = "crop"
    module: Module = field(default_factory=Module)
    union: int | None = None

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if not 0 <= self.weight <= MOST_WEIGHT:
            message = f"controlnet: the weight {self.weight} is not from 0 to {MOST_WEIGHT:g}"
            raise ConfigError(message)
        if not 0 <= self.start < self.end <= 1:
            message = f"controlnet: it cannot steer from {self.start} to {self.end} of the steps; 0 <= start < end <= 1"
            raise ConfigError(message)
        for what, value, known in (("mode", self.mode, MODES), ("resize_mode", self.resize_mode, RESIZE_MODES)):
            if value not in known:
                message = f"controlnet: there is no {what} {value!r}.{nearest(value, known)}"
                raise ConfigError(message)

    def steers(self, index: int, total: int) -> bool:
        """Return whether it has a say at look ``index`` of ``total``; a weight of 0 has none."""
        return self.weight > 0 and index / total >= self.start and (index + 1) / total <= self.end

    @property
    def only_prompted(self) -> bool:
        """Whether only the prediction with the prompt is steered; so too where the network pools what it sees."""
        return self.mode in ("guess", "control") or self.pools

    @property
    def pools(self) -> bool:
        """Whether the network pools what it sees."""
        return bool(self.network.config.get("global_pool_conditions"))

    def described(self, image_hash: str) -> dict[str, Any]:
        """Return what it is, for the provenance of a picture."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        network, module = self.network, asdict(self.module)
        if self.union is None:
            del said["union"]
        return said | {"network": network.name, "hash": network.hash, "image": image_hash, "module": module}


def infotext(controls: tuple[Control, ...]) -> dict[str, str]:
    """Return the fields that A1111's ControlNet extension writes, one for each control."""
    return {f"ControlNet {place}": _unit(each) for place, each in enumerate(controls)}


def _unit(control: Control) -> str:
    """Write one unit; its reader splits at commas and colons, so a name cannot have any."""
    name = re.sub(r"[,:]", "_", control.network.name)
    made, canny = control.module, control.module.name == "canny"
    said: dict[str, object] = {
        "Module": made.name,
        "Model": f"{name} [{control.network.hash}]" if control.network.hash else name,
        "Weight": float(control.weight),
        "Resize Mode": _RESIZE_WORDS[control.resize_mode],
        **({"Processor Res": made.resolution} if canny and made.resolution is not None else {}),
        **({"Threshold A": float(made.low), "Threshold B": float(made.high)} if canny else {}),
        "Guidance Start": float(control.start),
        "Guidance End": float(control.end),
        "Pixel Perfect": canny and made.resolution is None,
        "Control Mode": _CONTROL_WORDS[control.mode],
    }
    return ", ".join(f"{key}: {value}" for key, value in said.items())


def parse(text: str) -> dict[str, Any]:
    """Read a unit of an infotext, in the extension's spelling of today or before; what is unknown is left out.

    >>> parse("Module: canny, Model: edges [0123abcd], Weight: 0.5")
    {'module': 'canny', 'model': 'edges', 'weight': 0.5}
    """
    found = {key.strip().lower().replace(" ", "_"): value.strip() for key, value in _FIELD.findall(text)}
    names = {"preprocessor": "module", "starting/ending": "range", "control_mode": "mode"}
    found = {names.get(key, key): value for key, value in found.items()}
    if "range" in found:
        start, _, end = found.pop("range").strip("()").partition(",")
        found |= {"guidance_start": start.strip(), "guidance_end": end.strip()}
    read: dict[str, Any] = {}
    for name, value in found.items():
        if name == "module":
            read[name] = value
        elif name == "model":
            read[name] = re.sub(r"\s*\[[0-9a-fA-F]+\]$", "", value)
        elif name in _NUMBERS and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value):
            read[_NUMBERS[name]] = float(value)
        elif name in ("resize_mode", "mode"):
            words = _RESIZE_WORDS if name == "resize_mode" else _CONTROL_WORDS
            known = {theirs.lower(): ours for ours, theirs in words.items()}
            read |= {name: known[value.lower()]} if value.lower() in known else {}
    return read


_FIELD = re.compile(r"([A-Za-z][\w /]*):\s*(\([^)]*\)|[^,]*)")
_NUMBERS = {
    "weight": "weight", "guidance_start": "guidance_start", "guidance_end": "guidance_end",
    "processor_res": "resolution", "threshold_a": "low", "threshold_b": "high",
}  # fmt: skip
