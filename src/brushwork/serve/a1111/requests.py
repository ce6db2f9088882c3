"""The requests of ``/sdapi/v1``: every field that clients send; what we cannot do is refused where it would matter.

A field at the value that means "no" (``restore_faces: false``, ``hr_scale`` without ``enable_hr``) is read and ignored,
for clients send them all. At any other value, a field that we cannot honour is an error, never a silently different
picture.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from brushwork import samplers
from brushwork.errors import ConfigError

SETTABLE = (
    "sd_model_checkpoint",
    "sd_vae",
    "CLIP_stop_at_last_layers",
    "initial_noise_multiplier",
    "inpainting_mask_weight",
)
"""Options that decide a picture and can be set for one request."""


class Generation(BaseModel):
    """What txt2img and img2img have in common. Unknown fields are collected and refused unless they say nothing."""

    model_config = ConfigDict(extra="allow")

    prompt: str = ""
    negative_prompt: str = ""
    styles: list[str] | None = None
    seed: int = -1
    subseed: int = -1
    subseed_strength: float = 0
    seed_resize_from_h: int = -1
    seed_resize_from_w: int = -1
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    batch_size: int = Field(1, ge=1)
    n_iter: int = Field(1, ge=1)
    steps: int = Field(50, ge=1)
    cfg_scale: float = 7.0
    width: int | None = Field(None, ge=1, description="null: what the model was trained at.")
    height: int | None = Field(None, ge=1, description="null: what the model was trained at.")
    restore_faces: bool | None = None
    tiling: bool | None = None
    do_not_save_samples: bool = False
    do_not_save_grid: bool = False
    eta: float | None = None
    s_churn: float | None = None
    s_tmin: float | None = None
    s_tmax: float | None = None
    s_noise: float | None = None
    override_settings: dict[str, Any] | None = None
    override_settings_restore_afterwards: bool = True
    script_name: str | None = None
    script_args: list[Any] = []
    send_images: bool = True
    save_images: bool = False
    alwayson_scripts: dict[str, Any] = {}
    lora: list[dict[str, Any]] = []
    """stable-diffusion.cpp's way to name adapters."""
    denoising_strength: float | None = None

    @property
    def count(self) -> int:
        """How many pictures."""
        return self.batch_size * self.n_iter

    def sampler(self) -> str:
        """Return the sampler with its schedule, as ``brushwork.samplers`` reads them.

        Raises:
            ConfigError: With the nearest name.
        """
        name = self.sampler_name or self.sampler_index or "Euler"
        schedule = (self.scheduler or "automatic").strip()
        if schedule.lower() == "automatic":
            return samplers.resolve(name).name if not _has_schedule(name) else name
        known = {each.lower().replace(" ", "_"): each for each in samplers.EVERY}
        found = known.get(schedule.lower().replace(" ", "_"))
        if found is None:
            message = f"scheduler: there is no {schedule!r}. Known: automatic, {', '.join(known)}"
            raise ConfigError(message)
        return f"{samplers.resolve(name).name} {found}"

    def check(self) -> None:
        """Refuse what would make another picture than the one that was asked for.

        Raises:
            ConfigError: With the field.
        """
        wanted = {
            "restore_faces": bool(self.restore_faces),
            "tiling": bool(self.tiling),
            "subseed_strength": self.subseed_strength != 0,
            "seed_resize_from_h": self.seed_resize_from_h > 0,
            "seed_resize_from_w": self.seed_resize_from_w > 0,
            "s_churn": bool(self.s_churn),
            "s_tmin": bool(self.s_tmin),
            "s_noise": self.s_noise not in (None, 1, 1.0),
            "script_name": bool(self.script_name),
            "alwayson_scripts": bool(self.alwayson_scripts),
            **self.also_wanted(),
        }
        for name, is_wanted in wanted.items():
            if is_wanted:
                message = f"{name}: this server cannot do it; leave it out"
                raise ConfigError(message)
        for name in self.override_settings or {}:
            if name not in SETTABLE:
                message = f"override_settings: {name!r} cannot be set for a request; these can: {', '.join(SETTABLE)}"
                raise ConfigError(message)

    def also_wanted(self) -> dict[str, bool]:
        """Return which fields of the request's own kind ask for something that we cannot do."""
        return {}


def _has_schedule(name: str) -> bool:
    return samplers.resolve(name).schedule != "Automatic"


class TextRequest(Generation):
    """``POST /sdapi/v1/txt2img``."""

    enable_hr: bool = False

    def also_wanted(self) -> dict[str, bool]:
        """Return what of txt2img we cannot do."""
        return {"enable_hr": self.enable_hr}


class ImageRequest(Generation):
    """``POST /sdapi/v1/img2img``."""

    init_images: list[str] = Field([], max_length=1)
    mask: str | None = None
    resize_mode: Literal[0, 1, 2, 3] = 0
    image_cfg_scale: float | None = None
    mask_blur: int | None = None
    mask_blur_x: int = 4
    mask_blur_y: int = 4
    inpainting_fill: int = 1
    inpaint_full_res: bool = False
    inpaint_full_res_padding: int = 0
    inpainting_mask_invert: bool | int = 0
    initial_noise_multiplier: float | None = None
    include_init_images: bool = False

    def also_wanted(self) -> dict[str, bool]:
        """Return what of img2img we cannot do."""
        masked = self.mask is not None
        return {
            "resize_mode": self.resize_mode == 3,  # noqa: PLR2004  (in latent space)
            "inpainting_fill": masked and self.inpainting_fill != 1,
            "inpaint_full_res": masked and self.inpaint_full_res,
            "initial_noise_multiplier": self.initial_noise_multiplier not in (None, 1, 1.0),
        }
