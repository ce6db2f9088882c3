"""``inception:FILE``: the Inception of FID and the Inception Score, with torch-fidelity's port of its weights.

``inception:auto`` lets torch-fidelity fetch them, a path names the file (pt_inception-2015-12-05-6726825d.pth).
Pictures go in at their own size and the network resizes them as TensorFlow did in 2015; otherwise no number would
compare with published ones. Needs the extra ``inception`` (torch-fidelity and torchvision); nothing else in brushwork
does.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brushwork.encoders import EVERY_REFERENCE
from brushwork.errors import ModelError
from brushwork.extractors import lacking
from brushwork.loading import hash_weights

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from brushwork.encoders import Features, Serves

PACKAGE = "torch-fidelity"
FEATURES, LOGITS = "2048", "logits_unbiased"


@dataclass(frozen=True)
class Inception:
    """The pool features (N, 2048), or the probabilities (N, 1008) of the classes from the logits without bias."""

    name: str
    revision: str
    model: Any
    classes: bool
    serves: tuple[Serves, ...]
    references: int
    preprocessing: str = "tensorflow-2015"
    batch_size: int = 32

    def encode_images(self, images: Sequence[Image]) -> Features:
        """Return (N, 2048) or (N, 1008)."""
        return np.concatenate([
            self._encode([np.asarray(each.convert("RGB")) for each in images[start : start + self.batch_size]])
            for start in range(0, len(images), self.batch_size)
        ])  # fmt: skip

    def _encode(self, pixels: Sequence[NDArray[np.uint8]]) -> Features:
        import torch

        if len({each.shape for each in pixels}) > 1:  # each at its own size
            return np.concatenate([self._encode([each]) for each in pixels])
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            features, logits = self.model(torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).to(device))
        chosen = logits.float().softmax(dim=-1) if self.classes else features.float()
        found: Features = chosen.cpu().numpy()
        return found


def load(place: str, name: str, *, device: str, key: str) -> tuple[Inception, Inception]:
    """Load the network and return its features and its classes.

    Raises:
        ConfigError: torch-fidelity is not installed.
        ModelError: The file is not there.
    """
    file = None if place == "auto" else Path(place).expanduser()
    if file is not None and not file.is_file():
        message = f"{key}: {name!r}: there is no file {str(file)!r}. Name torch-fidelity's weights, or inception:auto."
        raise ModelError(message)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise lacking(PACKAGE, name, key) from error
    try:
        model = FeatureExtractorInceptionV3(
            "inception-v3-compat",
            [FEATURES, LOGITS],
            feature_extractor_weights_path=None if file is None else str(file),
        )
    except OSError as error:
        message = f"{key}: {name!r} cannot be loaded: {str(error).strip().splitlines()[0]}"
        raise ModelError(message) from error
    model = model.eval().to(device)
    revision = hash_weights(model)
    return (
        Inception(name, revision, model, False, ("inception", "features"), EVERY_REFERENCE),  # noqa: FBT003
        Inception(name, revision, model, True, ("classes",), 0, "tensorflow-2015-classes"),  # noqa: FBT003
    )
