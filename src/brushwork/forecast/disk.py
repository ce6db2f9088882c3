"""What a run writes, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.forecast import optimizers
from brushwork.forecast.tracking import rehearsal

if TYPE_CHECKING:
    from brushwork.train import Trainer
    from brushwork.values import Family


def of(trainer: Trainer) -> dict[str, int]:
    """Return what the run writes: into the cache, as checkpoints, as its weights."""
    from brushwork.forecast import estimate

    family, data, encoder = trainer.family, trainer.data, trainer.encoder
    settings: Any = trainer.config.data
    side = settings.resolution // family.pixels_per_latent
    pictures = len(set(data.digests) | set(data.rejected)) * (2 if settings.random_flip else 1)
    latents = pictures * 2 * 4 * family.latent_channels * side**2 if encoder.pictures.store else 0
    captions = {each for index in range(len(data.source)) for each in data.source[index].captions}
    texts = len(captions) * _bytes_of_a_text(family) if encoder.cache_text else 0
    trained = sum(each.numel() * 4 for each in trainer.named.values())
    config, each = trainer.config.train, checkpoint(trainer)
    number = -(-trainer.total_steps // config.checkpointing_steps)
    held = min(number, config.checkpoints_total_limit or number)
    whole = sum(estimate.standing(trainer).values()) if trainer.method.updates_base else trained
    return {"cached latents": latents, "cached texts": texts, "checkpoints": held * each, "weights": whole}


def checkpoint(trainer: Trainer) -> int:
    """Return the bytes of a checkpoint: the trained weights, the optimizer's state, the average."""
    trained = list(trainer.named.values())
    whole = sum(each.numel() * 4 for each in trained)
    state = optimizers.state(trainer.config.optimizer.type, trained)
    return whole + state + (whole if trainer.config.train.use_ema else 0)


def _bytes_of_a_text(family: Family) -> int:
    import torch

    from brushwork.forecast import estimate

    try:
        with estimate.quiet(), rehearsal(), torch.no_grad():
            told = family.encode_text([""])
            return sum(each.numel() * max(4, each.element_size()) for each in told.tensors.values())
    except estimate.dynamic():
        return 0
