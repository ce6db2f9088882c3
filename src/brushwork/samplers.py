"""Samplers by the names that AUTOMATIC1111's web UI gave them, built from diffusers' schedulers.

    sampler = resolve("DPM++ 2M Karras")            # also k_dpmpp_2m, dpmpp_2m, euler_a ...
    scheduler = build(sampler, family.scheduler_config)

A name that diffusers cannot honour is refused with the reason; nothing is ever put in its place.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

AUTOMATIC = "Automatic"
USUAL = "DPM++ 2M"
"""Where nobody chose one and the model has none of its own."""
SPACED: Mapping[str, dict[str, Any]] = {
    "Uniform": {"timestep_spacing": "linspace"},
    "SGM Uniform": {"timestep_spacing": "trailing"},
}
CURVED: Mapping[str, dict[str, Any]] = {
    "Karras": {"timestep_spacing": "linspace", "use_karras_sigmas": True},
    "Exponential": {"timestep_spacing": "linspace", "use_exponential_sigmas": True},
    "Beta": {"timestep_spacing": "linspace", "use_beta_sigmas": True},
}
EVERY: Mapping[str, dict[str, Any]] = {**SPACED, **CURVED}
FIXED: Mapping[str, dict[str, Any]] = {"DDIM": {"timestep_spacing": "leading", "steps_offset": 1}}

# The part of a base's scheduler config that describes how the model was trained. The rest (solver order, clipping,
# spacing) belongs to the sampler that the base was shipped with and must not leak into another one.
TRAINED = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
)
NEEDS_SCIPY = ("LMS", "Beta")


@dataclass(frozen=True)
class Sampler:
    """A sampler with its noise schedule, ready to be built.

    ``schedule`` is as asked for (Automatic: the sampler's own), ``changes`` what is set on the scheduler.
    """

    name: str
    schedule: str
    scheduler: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class _Row:
    scheduler: str
    schedules: Mapping[str, dict[str, Any]]
    automatic: str
    aliases: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)


_SDE = {"algorithm_type": "sde-dpmsolver++"}
_UNCLIPPED = {"clip_sample": False}
_ROWS: Mapping[str, _Row] = {
    "Euler a": _Row("EulerAncestralDiscreteScheduler", SPACED, "Uniform", ("k_euler_a", "k_euler_ancestral")),
    "Euler": _Row("EulerDiscreteScheduler", EVERY, "Uniform", ("k_euler",)),
    "LMS": _Row("LMSDiscreteScheduler", EVERY, "Uniform", ("k_lms",)),
    "Heun": _Row("HeunDiscreteScheduler", EVERY, "Uniform", ("k_heun",)),
    "DPM2": _Row("KDPM2DiscreteScheduler", EVERY, "Karras", ("k_dpm_2",)),
    "DPM2 a": _Row("KDPM2AncestralDiscreteScheduler", EVERY, "Karras", ("k_dpm_2_a", "k_dpm_2_ancestral")),
    "DPM++ 2M": _Row(
        "DPMSolverMultistepScheduler",
        EVERY,
        "Karras",
        ("k_dpmpp_2m",),
        {"algorithm_type": "dpmsolver++", "solver_order": 2},
    ),
    "DPM++ 2M SDE": _Row(
        "DPMSolverMultistepScheduler", EVERY, "Exponential", ("k_dpmpp_2m_sde",), {**_SDE, "solver_order": 2}
    ),
    "DPM++ 2M SDE Heun": _Row(
        "DPMSolverMultistepScheduler",
        EVERY,
        "Exponential",
        ("k_dpmpp_2m_sde_heun",),
        {**_SDE, "solver_order": 2, "solver_type": "heun"},
    ),
    "DPM++ 3M SDE": _Row(
        "DPMSolverMultistepScheduler", EVERY, "Exponential", ("k_dpmpp_3m_sde",), {**_SDE, "solver_order": 3}
    ),
    "DDIM": _Row("DDIMScheduler", {**FIXED, **SPACED}, "DDIM", ("ddim",), {**_UNCLIPPED, "set_alpha_to_one": False}),
    "PLMS": _Row("PNDMScheduler", FIXED, "DDIM", ("plms", "pndm"), {"skip_prk_steps": True, "set_alpha_to_one": False}),
    "UniPC": _Row("UniPCMultistepScheduler", EVERY, "Uniform", ("unipc", "uni_pc")),
    "LCM": _Row("LCMScheduler", {"LCM": {}}, "LCM", ("k_lcm",), _UNCLIPPED),
    "DDPM": _Row("DDPMScheduler", {**FIXED, **SPACED}, "DDIM", ("ddpm",), _UNCLIPPED),
    "DEIS": _Row("DEISMultistepScheduler", EVERY, "Uniform", ("deis",)),
    "TCD": _Row("TCDScheduler", {"TCD": {}}, "TCD", ("tcd",), _UNCLIPPED),
    "SA-Solver": _Row("SASolverScheduler", EVERY, "Uniform", ("sa_solver",)),
}

_ABSENT = {
    "DPM++ SDE": "diffusers has it only with noise from torchsde, which is not drawn from each picture's own seed",
    "DPM++ 2S a": "diffusers has no such scheduler",
    "DPM fast": "diffusers has no such scheduler",
    "DPM adaptive": "diffusers has no such scheduler",
    "Restart": "diffusers has no such scheduler",
    "DDIM CFG++": "diffusers has no such scheduler",
    "HeunPP2": "diffusers has no such scheduler",
    "IPNDM": "diffusers' IPNDMScheduler ignores the base's noise schedule",
}


def names() -> list[str]:
    """Return the samplers that can be used here, in A1111's order."""
    return [name for name in _ROWS if name not in NEEDS_SCIPY or _has_scipy()]


def schedules(name: str) -> list[str]:
    """Return the noise schedules that a sampler takes besides Automatic."""
    return [each for each in _ROWS[name].schedules if each in EVERY and (each not in NEEDS_SCIPY or _has_scipy())]


def aliases(name: str) -> list[str]:
    """Return the other names of a sampler."""
    return list(_ROWS[name].aliases)


def resolve(name: str, schedule: str = AUTOMATIC) -> Sampler:
    """Find a sampler by its A1111 name, its alias, or the old form with the schedule at the end.

    Raises:
        ConfigError: No such sampler or schedule, or one that diffusers does not have.
    """
    found, at_the_end = _find(name)
    schedule = at_the_end or schedule
    row = _ROWS[found]
    wanted = {_key(each): each for each in (AUTOMATIC, *row.schedules)}.get(_key(schedule))
    if wanted is None:
        message = (
            f"sampler: {found} has no schedule {schedule!r}. It takes {', '.join([AUTOMATIC, *schedules(found)])}."
        )
        raise ConfigError(message)
    effective = row.automatic if wanted == AUTOMATIC else wanted
    for part in (found, effective):
        if part in NEEDS_SCIPY and not _has_scipy():
            message = f"sampler: {part} needs scipy. Install it (pip install scipy) or use DPM++ 2M."
            raise ConfigError(message)
    return Sampler(found, wanted, row.scheduler, {**row.schedules[effective], **row.changes})


def build(sampler: Sampler, scheduler_config: Mapping[str, Any]) -> Any:
    """Build the scheduler on the noise schedule that the base was trained with.

    Args:
        sampler: From ``resolve``.
        scheduler_config: The base's scheduler config, of whatever scheduler it was shipped with.

    Raises:
        ConfigError: The sampler cannot work with this base's noise schedule.
    """
    import diffusers

    scheduler = getattr(diffusers, sampler.scheduler)
    trained = {key: scheduler_config[key] for key in TRAINED if scheduler_config.get(key) is not None}
    accepted = inspect.signature(scheduler.__init__).parameters
    zero_snr = bool(trained.get("rescale_betas_zero_snr"))
    if trained.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction"):
        kind = trained["prediction_type"]
        message = f"sampler: {sampler.name} wants a base of epsilon or v_prediction; this one predicts {kind!r}."
        raise ConfigError(message)
    if zero_snr and "rescale_betas_zero_snr" not in accepted:
        message = (
            f"sampler: {sampler.name} cannot start from pure noise, which this base (zero terminal SNR) needs.\n"
            f"Use Euler a, Euler, DPM++ 2M, DDIM or UniPC."
        )
        raise ConfigError(message)
    changes = dict(sampler.changes)
    if zero_snr and changes.get("timestep_spacing") == "leading":
        changes["timestep_spacing"] = "trailing"  # the last timestep must be visited: arXiv:2305.08891, section 3.3
    kept = {key: value for key, value in trained.items() if key in accepted}
    try:
        return scheduler(**{**kept, **changes})
    except NotImplementedError as error:  # how diffusers refuses a setting; the user gets a sentence
        message = f"sampler: {sampler.name} does not work with this base's noise schedule: {error}"
        raise ConfigError(message) from error


def _find(name: str) -> tuple[str, str]:
    """Return the sampler's name and the schedule found at the end of an old-style name, or ""."""
    table, ends = _table(), {**{_key(each): each for each in (AUTOMATIC, *EVERY)}, "ka": "Karras"}
    key = _key(name)
    for end in ("", *sorted(ends, key=len, reverse=True)):
        stem = key.removesuffix(end)
        for each in (stem, stem.removeprefix("k")):
            if key.endswith(end) and each in table:
                return _available(table[each]), ends.get(end, "")
    message = f"sampler: there is no {name!r}.{nearest(name, names())}"
    raise ConfigError(message)


def _available(name: str) -> str:
    if name in _ABSENT:
        message = f"sampler: {name} is not available: {_ABSENT[name]}. Near to it: {_NEAR.get(name, 'DPM++ 2M')}."
        raise ConfigError(message)
    return name


_NEAR = {"DPM++ SDE": "DPM++ 2M SDE", "DPM++ 2S a": "Euler a", "DDIM CFG++": "DDIM", "HeunPP2": "Heun", "IPNDM": "DEIS"}


@functools.cache
def _table() -> dict[str, str]:
    spelled = {alias: name for name, row in _ROWS.items() for alias in (name, *row.aliases)}
    return {_key(alias): name for alias, name in [*spelled.items(), *((each, each) for each in _ABSENT)]} | {
        _key(alias).removeprefix("k"): name for alias, name in spelled.items() if alias.startswith("k_")
    }


def _key(name: str) -> str:
    """Reduce a name to what tells samplers apart: ``k_dpmpp_2m`` and ``DPM++ 2M`` differ only in the k."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp").replace("ancestral", "a"))


def _has_scipy() -> bool:
    return importlib.util.find_spec("scipy") is not None
