"""The requests of ``/sdapi/v1``: every field that clients send; what we cannot do is refused where it would matter.

A field at the value that means "no" (``restore_faces: false``, ``hr_scale`` without ``enable_hr``) is read and ignored,
for clients send them all. At any other value, a field that we cannot honour is an error, never a silently different
picture.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from brushwork import samplers
from brushwork.errors import ConfigError, nearest
from brushwork.hires import UPSCALERS
from brushwork.inpaint import CONTENTS
from brushwork.serve.jobs import HiresAsked

SETTABLE = (
    "sd_model_checkpoint",
    "sd_vae",
    "CLIP_stop_at_last_layers",
    "initial_noise_multiplier",
    "inpainting_mask_weight",
)
"""Options that decide a picture and can be set for one request."""


class Generation(BaseModel):
    """What txt2img and img2img have in common. Fields that nobody knows are of other extensions, and are ignored."""

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
    clip_skip: int | None = Field(None, ge=1, le=12, description="SD.Next's way to say it.")
    infotext: str | None = Field(None, description="Of a picture: what it says holds where no other field does.")
    refiner_checkpoint: str | None = None
    disable_extra_networks: bool = False

    @property
    def count(self) -> int:
        """How many pictures."""
        return self.batch_size * self.n_iter

    def seed_resize(self) -> tuple[int, int] | None:
        """Return the width and height whose noise is asked for, if any; A1111 takes both or nothing."""
        sides = (self.seed_resize_from_w, self.seed_resize_from_h)
        return sides if min(sides) > 0 else None

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
            "s_churn": bool(self.s_churn),
            "s_tmin": bool(self.s_tmin),
            "s_noise": self.s_noise not in (None, 1, 1.0),
            "refiner_checkpoint": self.refiner_checkpoint not in (None, "", "None"),
            "disable_extra_networks": self.disable_extra_networks,
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
    firstphase_width: int = 0
    firstphase_height: int = 0
    hr_scale: float = 2.0
    hr_upscaler: str | None = None
    hr_second_pass_steps: int = 0
    hr_resize_x: int = 0
    hr_resize_y: int = 0
    hr_checkpoint_name: str | None = None
    hr_sampler_name: str | None = None
    hr_scheduler: str | None = None
    hr_prompt: str = ""
    hr_negative_prompt: str = ""

    def also_wanted(self) -> dict[str, bool]:
        """Return what of txt2img we cannot do."""
        if not self.enable_hr:
            return {}
        return {
            "hr_checkpoint_name": self.hr_checkpoint_name not in (None, "", "Use same checkpoint"),
            "firstphase_width": bool(self.firstphase_width or self.firstphase_height),
        }

    def hires(self) -> HiresAsked | None:
        """Return the second pass.

        Raises:
            ConfigError: There is no such upscaler or sampler.
        """
        if not self.enable_hr:
            return None
        upscaler = self.hr_upscaler or "Latent"
        if upscaler not in UPSCALERS:
            message = f"hr_upscaler: there is no {upscaler!r}.{nearest(upscaler, UPSCALERS)}"
            raise ConfigError(message)
        resized = bool(self.hr_resize_x or self.hr_resize_y)
        return HiresAsked.model_validate(
            {
                "scale": None if resized else self.hr_scale,
                "width": self.hr_resize_x or None,
                "height": self.hr_resize_y or None,
                "upscaler": upscaler,
                "steps": self.hr_second_pass_steps,
                "strength": 0.75 if self.denoising_strength is None else self.denoising_strength,
                "sampler": self._second_sampler(),
                "prompt": self.hr_prompt or None,
                "negative_prompt": self.hr_negative_prompt or None,
            }
        )

    def _second_sampler(self) -> str | None:
        """Return the sampler of the second pass; None when it is that of the first."""
        same = (None, "", "Use same sampler", "Use same scheduler")
        if self.hr_sampler_name in same and (
            self.hr_scheduler in same or str(self.hr_scheduler).lower() == "automatic"
        ):
            return None
        name = self.sampler_name if self.hr_sampler_name in same else self.hr_sampler_name
        schedule = self.scheduler if self.hr_scheduler in same else self.hr_scheduler
        return self.model_copy(update={"sampler_name": name, "scheduler": schedule}).sampler()


class ImageRequest(Generation):
    """``POST /sdapi/v1/img2img``."""

    init_images: list[str] = Field([], max_length=1)
    mask: str | None = None
    resize_mode: Literal[0, 1, 2, 3] = 0
    image_cfg_scale: float | None = None
    mask_blur: int | None = None
    mask_blur_x: int = 4
    mask_blur_y: int = 4
    inpainting_fill: int = Field(0, ge=0, le=3)
    inpaint_full_res: bool = True
    inpaint_full_res_padding: int = Field(0, ge=0)
    inpainting_mask_invert: bool | int = 0
    initial_noise_multiplier: float | None = None
    include_init_images: bool = False

    def also_wanted(self) -> dict[str, bool]:
        """Return what of img2img we cannot do."""
        return {
            "resize_mode": self.resize_mode == 3,  # noqa: PLR2004  (in latent space)
            "mask_blur_x": self.mask_blur is None and self.mask_blur_x != self.mask_blur_y,
        }

    def inpainting(self) -> dict[str, Any]:
        """Return what a job with a mask has besides."""
        if self.mask is None:
            return {}
        return {
            "mask_blur": self.mask_blur_x if self.mask_blur is None else self.mask_blur,
            "masked_content": CONTENTS[self.inpainting_fill],
            "only_masked_padding": self.inpaint_full_res_padding if self.inpaint_full_res else None,
        }
