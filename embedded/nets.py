"""The untrained text encoder and UNet of `mini`, and the schedule they are trained for.

python -m embedded.nets      # saves an untrained pipeline to scratch/mini-untrained/
"""

from typing import TYPE_CHECKING, Any

from embedded import tokenizer as tokenizers
from embedded.paths import WORK

if TYPE_CHECKING:
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel

TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 192, 3, 4
UNET_CHANNELS = (64, 96, 128)
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.02,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
}
"""Of a 16 x 16 latent the mean survives sixteen times as much noise as one number: at Stable Diffusion's last level
(beta_end 0.012) it stands 1.1 standard deviations out of the noise, so that the starting noise, and no prompt or
fine-tune, would choose the colour of the ground. Here it is 0.25, and drawing begins at the last level (trailing)."""


def text_config() -> dict[str, Any]:
    """Return the text tower's shape; the ids are our tokenizer's (a wrong eos id makes all texts equal)."""
    tokenizer = tokenizers.load()
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "projection_dim": TEXT_WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": TEXT_HEADS,
        "max_position_embeddings": tokenizers.LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def new_text_encoder() -> "CLIPTextModel":
    """Return the untrained CLIP text model."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(**text_config()))


def new_unet() -> "UNet2DConditionModel":
    """Return the untrained UNet: residual branches start near zero, so early steps are stable."""
    import torch
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=UNET_CHANNELS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=16,
    )
    with torch.no_grad():
        for name, module in unet.named_modules():
            if name.endswith(".conv2"):
                module.weight.mul_(0.1)
        unet.conv_out.weight.mul_(0.1)
    return unet


def new_scheduler() -> "DDIMScheduler":
    """Return the pipeline's default sampler, with the training betas; DPM++ 2M draws practically the same."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(**SCHEDULE, steps_offset=1, clip_sample=False, set_alpha_to_one=False)


def save_untrained() -> None:
    """Save a pipeline with the final shapes and no training, for code that is written meanwhile."""
    from embedded.export import save_pipeline
    from embedded.vae import new_vae

    vae = new_vae()
    vae.register_to_config(scaling_factor=0.5)
    save_pipeline(WORK / "mini-untrained", vae, new_text_encoder(), new_unet())


if __name__ == "__main__":
    save_untrained()
