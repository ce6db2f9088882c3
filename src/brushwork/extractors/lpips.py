"""``lpips:NET``: features whose squared distance is LPIPS, so that it can be computed again from what was saved.

Zhang et al. 2018 (arXiv:1801.03924), equation 1: in each layer l the activations are divided by their length over
channels, their squared difference is weighted by w_l >= 0 and averaged over the H_l W_l places. With every activation
multiplied by sqrt(w_l / (H_l W_l)) and all layers in one row, that is |f(a) - f(b)|^2. Needs the extra ``lpips``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.encoders import LUMINANCE_SIDE
from brushwork.errors import ConfigError, nearest
from brushwork.extractors import lacking
from brushwork.loading import hash_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from brushwork.encoders import Features, Serves

PACKAGE = "lpips"
NETS = ("alex", "vgg", "squeeze")
EPSILON = 1e-10
"""Added to a length before dividing by it, as the authors do."""


@dataclass(frozen=True)
class Lpips:
    """The features of the ``lpips`` package's network, weighted by its calibration."""

    name: str
    revision: str
    model: Any
    serves: tuple[Serves, ...] = ("lpips",)
    references: int = 0
    preprocessing: str = "box-256"

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return (N, D); D depends on the size of the pictures, which is made at most about 256."""
        return np.stack([self._encode(image.convert("RGB")) for image in images])

    def _encode(self, image: Image) -> Features:
        import torch

        smaller = image.reduce(max(1, round(min(image.size) / LUMINANCE_SIDE)))
        pixels = torch.from_numpy(np.asarray(smaller, np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
        with torch.inference_mode():
            layers = self.model.net(self.model.scaling_layer(pixels.to(next(self.model.parameters()).device)))
            rows = []
            for place in range(self.model.L):
                layer = layers[place]
                length = layer.square().sum(dim=1, keepdim=True).sqrt() + EPSILON
                weight = self.model.lins[place].model[-1].weight.clamp(min=0) / (layer.shape[2] * layer.shape[3])
                rows.append((layer / length * weight.sqrt()).flatten())
        features: Features = torch.cat(rows).float().cpu().numpy()
        return features


def load(which: str, name: str, *, device: str, key: str) -> tuple[Lpips, ...]:
    """Load the network.

    Raises:
        ConfigError: There is no such net, or the package is not installed.
    """
    if which not in NETS:
        message = f"{key}: {name!r}: there is no such net.{nearest(which, NETS)}"
        raise ConfigError(message)
    try:
        import lpips
    except ImportError as error:
        raise lacking(PACKAGE, name, key) from error
    model: Any = lpips.LPIPS(net=which, version="0.1", verbose=False).eval().to(device)

    return (Lpips(name, hash_weights(model), model),)
