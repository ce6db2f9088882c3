"""The options of ``/sdapi/v1/options``: defaults for later requests of the client that set them, never of another.

What decides a picture is read from here when a job is accepted and is a part of the job from then on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from brushwork.serve.engine import Engine

FIXED: dict[str, Any] = {"samples_format": "png"}
"""Options with one value that we can honour."""
MASK_WEIGHT = "inpainting_mask_weight"
NOISE = "initial_noise_multiplier"
MOST_NOISE = 1.5
SUFFIX = ".safetensors"
OWN_VAE = (None, "", "Automatic", "None")
"""Each means the model's own."""


class Options:
    """Each client's own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._chosen: dict[str, str] = {}
        self._clip_skip: dict[str, int] = {}
        self._noise: dict[str, float] = {}
        self._mask_weight: dict[str, float] = {}
        self._vae: dict[str, str] = {}

    def model(self, client: str) -> str:
        """Return the name of the model that a client draws with."""
        chosen = self._chosen.get(client)
        names = [entry.name for entry in self.engine.catalogue.all("model")]
        return chosen if chosen in names else names[0]

    def shown(self, client: str) -> dict[str, Any]:
        """Return all options as a client reads them."""
        entry = self.engine.catalogue.hash(self.engine.catalogue.find("model", self.model(client)))
        return {"sd_model_checkpoint": entry.title, "sd_checkpoint_hash": entry.sha256 or "", **FIXED} | {
            "CLIP_stop_at_last_layers": self.clip_skip(client),
            NOISE: self.noise_multiplier(client),
            MASK_WEIGHT: self._mask_weight.get(client, 1.0),
            "sd_vae": self._vae.get(client, "Automatic"),
        }

    def set(self, client: str, given: dict[str, Any]) -> None:
        """Set what is known; other keys are ignored, for clients send everything back that they were given.

        Raises:
            UserError: There is no such model, or a value would change pictures in a way that we cannot.
        """
        self.check(given)
        if given.get("sd_model_checkpoint"):
            self._chosen[client] = self.find(str(given["sd_model_checkpoint"]))
        if given.get("CLIP_stop_at_last_layers"):
            self._clip_skip[client] = clip_skip_of(given)
        if given.get("sd_vae"):
            self._vae[client] = str(given["sd_vae"])
        if given.get(NOISE) is not None:
            self._noise[client] = float(given[NOISE])
        if given.get(MASK_WEIGHT) is not None:
            self._mask_weight[client] = float(given[MASK_WEIGHT])

    def clip_skip(self, client: str) -> int:
        """Return the layer of the text encoder at which a client's prompts end."""
        return self._clip_skip.get(client, 1)

    def vae(self, client: str, given: dict[str, Any]) -> str | None:
        """Return the name of the VAE that is given, or else the client's; None: the model's own.

        Raises:
            ModelError: There is no such VAE.
        """
        name = given["sd_vae"] if given.get("sd_vae") else self._vae.get(client, "")
        return None if name in OWN_VAE else self.engine.catalogue.find("vae", str(name).removesuffix(SUFFIX)).name

    def noise_multiplier(self, client: str) -> float:
        """Return what the initial noise of a client's img2img is multiplied by."""
        return self._noise.get(client, 1.0)

    def mask_strength(self, client: str, given: dict[str, Any], model: str) -> float:
        """Return how wholly what is under a mask is hidden from a model for inpainting; for others the option is none.

        Raises:
            ConfigError: A request asks for it of another model.
        """
        sees_masks, asked = self.engine.catalogue.find("model", model).inpainting, given.get(MASK_WEIGHT)
        if asked not in (None, 1) and not sees_masks:
            message = f"{MASK_WEIGHT}: {model} is no model for inpainting and sees no mask; leave it out"
            raise ConfigError(message)
        standing = self._mask_weight.get(client, 1.0) if sees_masks else 1.0
        return standing if asked is None else float(asked)

    def check(self, given: dict[str, Any]) -> None:
        """Refuse a value that we could not honour."""
        clip_skip_of(given)
        for name, most in ((NOISE, MOST_NOISE), (MASK_WEIGHT, 1.0)):
            value = given.get(name)
            if value is not None and not (isinstance(value, int | float) and 0 <= value <= most):
                message = f"{name}: {str(value)[:40]} is not a number from 0 to {most:g}"
                raise ConfigError(message)
        self.vae("", given)

    def find(self, title: str) -> str:
        """Return the name of a model from its title, its name or the start of its hash."""
        return self.engine.catalogue.find("model", title.strip()).name


def clip_skip_of(given: dict[str, Any]) -> int:
    """Return the layer at which prompts end; 0 where it is not given.

    Raises:
        ConfigError: It is no layer.
    """
    value = given.get("CLIP_stop_at_last_layers")
    if value is None:
        return 0
    if not isinstance(value, int | float) or value != value or not 0 <= value <= 12 or value != int(value):  # noqa: PLR0124, PLR2004  (NaN; A1111's range)
        message = f"CLIP_stop_at_last_layers: {str(value)[:40]!r} is not a whole number from 1 to 12"
        raise ConfigError(message)
    return int(value)
