"""Do the data and the objective go together, and may this base be trained?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork import processes
from brushwork.devices import resolve_device
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from brushwork.config import Config
    from brushwork.values import Family, Method, Objective, Source


def check(source: Source, config: Config, method: Method, objective: Objective) -> None:
    """Refuse masks and pairs that an objective has no use for, and data that lack what is needed.

    Raises:
        ConfigError: One of these, ``preserve`` beside pairs, or a new word that nobody has pictures of.
        UserError: The average is to lie where there is no device.
    """
    if config.train.ema_device is not None:
        resolve_device(config.train.ema_device, "train.ema_device")
    kind, data = config.objective.type, config.data.type
    paired = len(source) > 0 and "rejected" in source[0].extra
    needed = getattr(objective, "uses_pairs", False)
    if getattr(config.data, "masks", False) and not getattr(objective, "uses_masks", False):
        message = f"data.masks: the objective {kind} has no use for masks. Leave data.masks out."
    elif paired and not needed:
        message = (
            f"data.type={data}: the objective {kind} has no use for the rejected pictures.\n"
            f"To learn from preferences: --method dpo, or objective.type=dpo"
        )
    elif needed and not paired:
        message = (
            f"objective.type={kind} learns from preference pairs, but data.type={data} has none. Set data.type=pairs."
        )
    elif needed and config.preserve is not None:
        message = (
            f"preserve: the objective {kind} learns from pairs, and pictures of the base's own are none. Leave it out; "
            f"a larger objective.beta keeps the model nearer to the base."
        )
    elif getattr(source, "streaming", False) and (config.preserve or config.train.dataloader_num_workers):
        key = "preserve" if config.preserve else "train.dataloader_num_workers"
        message = f"{key}: a stream comes one by one, in one process. Leave it out, or set data.streaming=false."
    elif config.train.fused_backward and processes.join().size > 1:
        message = (
            f"train.fused_backward: {processes.join().size} processes add up their gradients before any weight is "
            f"updated. Leave it out, or train in one process."
        )
    elif method.trains == {"embeddings"} and getattr(config.data, "caption_dropout", 0.0) > 0:
        message = (
            f"data.caption_dropout: {config.method.type} learns a word and nothing else, and from a caption without it "
            f"nothing is learnt. Leave it out."
        )
    elif hasattr(config.data, "drawings") and "embeddings" in method.trains:
        message = (
            f"data.type={data}: the base draws these pictures, and it cannot draw a word that {config.method.type} is "
            f"to learn. Give pictures of what the word means: --data FOLDER"
        )
    else:
        return
    raise ConfigError(message)


def check_base(family: Family, config: Config) -> None:
    """Refuse to train a base that can only be drawn with.

    Raises:
        ConfigError: It says why.
    """
    reason = getattr(family, "inference_only", None)
    if reason:
        message = f"base: {config.base!r} cannot be trained: {reason}."
        raise ConfigError(message)
