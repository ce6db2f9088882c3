"""The maps that ControlNets see: made of pictures, and brought to the size that is drawn.

    canny = Module("canny", low=100, high=200)
    make(photo, canny, "crop", (512, 512)).show()   # white edges on black

Only what is computed exactly is here: the picture itself, its negative, and Canny's edges (Canny 1986) by OpenCV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

    from brushwork.inpaint import View

ModuleName = Literal["none", "canny", "invert"]
ResizeMode = Literal["stretch", "crop", "fill"]
MODULES: tuple[ModuleName, ...] = get_args(ModuleName)
RESIZE_MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)
"""In the order of A1111's numbers."""
RESOLUTION, LOW, HIGH = 512, 100.0, 200.0
"""What A1111's extension takes unless told otherwise."""
MOST_RESOLUTION = 2048
CHANNEL = 255


@dataclass(frozen=True)
class Module:
    """How a map is made of a picture (A1111: preprocessor).

    Args:
        name: ``none`` (the picture is the map), ``invert`` (for black lines on white), ``canny``.
        resolution: With canny: the shorter side in pixels at which edges are looked for; None: that of what is drawn.
        low: With canny: a weaker edge than this is none, 0 to 255.
        high: With canny: a stronger one than this is one; between the two it must touch one.
    """

    name: ModuleName = "none"
    resolution: int | None = RESOLUTION
    low: float = LOW
    high: float = HIGH

    def __post_init__(self) -> None:
        """Refuse what is not here."""
        if self.name not in MODULES:
            message = f"controlnet: there is no module {self.name!r}.{nearest(self.name, MODULES)}"
            raise ConfigError(message)
        if self.resolution is not None and not 1 <= self.resolution <= MOST_RESOLUTION:
            message = f"controlnet: the resolution {self.resolution} is not from 1 to {MOST_RESOLUTION} pixels"
            raise ConfigError(message)
        for what, value in (("low", self.low), ("high", self.high)):
            if not 0 <= value <= CHANNEL:
                message = f"controlnet: the threshold {what} {value} is not from 0 to {CHANNEL}"
                raise ConfigError(message)


def available() -> list[ModuleName]:
    """Return the modules that this installation has."""
    import importlib.util

    return [each for each in MODULES if each != "canny" or importlib.util.find_spec("cv2") is not None]


def make(
    image: PIL.Image.Image, module: Module, resize_mode: ResizeMode, size: tuple[int, int] | None
) -> PIL.Image.Image:
    """Return the map of a picture, in RGB and of a width and height; without a size as large as it is made.

    Raises:
        ConfigError: OpenCV is not installed.
    """
    from PIL import ImageOps

    image = image.convert("RGB")
    if module.name == "invert":
        image = ImageOps.invert(image)
    elif module.name == "canny":
        image = _canny(image, module, resize_mode, size)
    return image if size is None else fitted(image, resize_mode, size)


def fitted(image: PIL.Image.Image, resize_mode: ResizeMode, size: tuple[int, int]) -> PIL.Image.Image:
    """Bring a picture to a width and height (Lanczos, as diffusers does)."""
    import numpy as np
    from PIL import Image, ImageOps

    lanczos = Image.Resampling.LANCZOS
    if resize_mode == "stretch":
        return image.resize(size, lanczos)
    if resize_mode == "crop":
        return ImageOps.fit(image, size, lanczos)
    inner, pixels = ImageOps.contain(image, size, lanczos), np.asarray(image)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    red, green, blue = (round(float(each)) for each in np.median(border, axis=0))
    whole = Image.new("RGB", size, (red, green, blue))
    whole.paste(inner, ((size[0] - inner.width) // 2, (size[1] - inner.height) // 2))
    return whole


def tensor(
    image: PIL.Image.Image, module: Module, resize_mode: ResizeMode, size: tuple[int, int], view: View | None = None
) -> Tensor:
    """Return a map as what a network sees: (1, 3, H, W) in [0, 1].

    Args:
        image: What it is made of.
        module: How.
        resize_mode: For other proportions.
        size: Width and height that are drawn.
        view: What is drawn of a picture; of a box of it only that part of the map is seen.
    """
    import numpy as np
    import torch
    from PIL import Image

    if view is None or view.box is None or view.original is None:
        made = make(image, module, resize_mode, size)
    else:
        made = make(image, module, resize_mode, view.original.size).crop(view.box)
        made = made.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(made, np.float32) / CHANNEL).permute(2, 0, 1)[None]


def _canny(
    image: PIL.Image.Image, module: Module, resize_mode: ResizeMode, size: tuple[int, int] | None
) -> PIL.Image.Image:
    """Return edges, looked for at the module's resolution; None: at that at which the map is drawn."""
    import numpy as np
    from PIL import Image

    try:
        import cv2
    except ImportError as error:
        message = "controlnet: canny needs OpenCV, which is not installed: pip install 'brushwork[data]'"
        raise ConfigError(message) from error
    factors = [1.0] if size is None else [size[0] / image.width, size[1] / image.height]
    factor = min(factors) if resize_mode == "fill" else max(factors)
    if module.resolution is not None:
        factor = module.resolution / min(image.size)
    wide, high = (max(1, round(side * factor)) for side in image.size)
    how = cv2.INTER_LANCZOS4 if factor > 1 else cv2.INTER_AREA
    sized = cv2.resize(np.array(image), (wide, high), interpolation=how)
    edges = cv2.Canny(sized, module.low, module.high)
    return Image.fromarray(edges).convert("RGB")
