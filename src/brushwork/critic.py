"""A CLIP model as a loss sees it: features of pictures with gradients, features of texts, and how the two are compared.

critic = Critic(encoders.load_clip("mini-clip"))
loss = global_loss(critic.images(pixels), critic.texts(captions, "an engraving of {caption}"))      # (B,)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork.clip_pixels import Preparation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from brushwork.encoders import Clip

CAPTION = "{caption}"
SAME = 1e-3
"""The length of a change, between unit vectors, below which its direction fades: none has no direction at all."""


class Critic:
    """A frozen CLIP model, its preparation of pictures, and the texts that it has read."""

    def __init__(self, clip: Clip) -> None:
        """Read how the model prepares pictures.

        Raises:
            ModelError: It does so in a way that has no gradient here.
        """
        self.clip = clip
        self.preparation = Preparation.of(clip.processor)
        self._texts: dict[str, Tensor] = {}

    def images(self, pixels: Tensor) -> Tensor:
        """Return the features of pictures (B, 3, H, W) in about [-1, 1]: unit vectors (B, D), always in float32."""
        import torch

        with torch.autocast(pixels.device.type, enabled=False):
            output = self.clip.model.get_image_features(pixel_values=self.preparation(pixels))
            features: Tensor = getattr(output, "pooler_output", output).float()
            return torch.nn.functional.normalize(features, dim=-1)

    def texts(self, captions: Sequence[str], template: str) -> Tensor:
        """Return the features of a template with each caption for ``{caption}``, unit vectors (B, D)."""
        import torch

        texts = [template.replace(CAPTION, caption) for caption in captions]
        for text in dict.fromkeys(texts):
            if text not in self._texts:
                # Alone: its last digits must not depend on which others a batch, or a resumed run, brings along.
                features, _ = self.clip.encode_texts([text])
                self._texts[text] = torch.from_numpy(features[0]).to(self.clip.model.device)
        return torch.stack([self._texts[text] for text in texts])


def global_loss(images: Tensor, texts: Tensor) -> Tensor:
    """Return 1 - cos of unit vectors (B, D): (B,), in [0, 2] (DiffusionCLIP, arXiv:2110.02711, equation 4)."""
    return 1 - (images * texts).sum(-1)


def directional_loss(images: Tensor, references: Tensor, targets: Tensor, sources: Tensor) -> Tensor:
    """Return 1 - cos of the pictures' change and the texts' change, unit vectors (B, D) each: (B,), in [0, 2].

    DiffusionCLIP, equation 5; Gal et al. 2021, arXiv:2108.00946, equation 3. A picture that equals its reference has no
    direction: its loss is 1, and its gradient leads along the texts' change.
    """
    change, wanted = images - references, targets - sources
    lengths = (change.square().sum(-1) + SAME**2).sqrt() * wanted.square().sum(-1).sqrt().clamp(min=SAME)
    return 1 - (change * wanted).sum(-1) / lengths
