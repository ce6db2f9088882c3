"""Write a Stable Diffusion 1 pipeline as the single file that the original code, A1111 and ComfyUI use.

The names follow CompVis' ``UNetModel`` (``input_blocks``, ``middle_block``, ``output_blocks``), ``AutoencoderKL`` (its
decoder's levels counted from the picture side) and the text encoder's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def write_single_file(pipeline: Any, path: Path) -> Path:
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {}
    unet = _unet_names(pipeline.unet)
    for key, tensor in pipeline.unet.state_dict().items():
        tensors[f"model.diffusion_model.{_rename(key, unet)}"] = tensor
    vae = _vae_names(pipeline.vae)
    for key, tensor in pipeline.vae.state_dict().items():
        tensors[f"first_stage_model.{_rename(key, vae)}"] = tensor
    for key, tensor in pipeline.text_encoder.state_dict().items():
        tensors[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = tensor
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, path)
    return path


def _rename(key: str, names: dict[str, str]) -> str:
    for ours in sorted(names, key=len, reverse=True):
        if key.startswith(f"{ours}."):
            return names[ours] + key[len(ours) :]
    raise KeyError(key)


def _unet_names(unet: Any) -> dict[str, str]:
    names = {
        "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
        "mid_block.attentions.0": "middle_block.1",
        **_resnet("mid_block.resnets.0", "middle_block.0"), **_resnet("mid_block.resnets.1", "middle_block.2"),
    }  # fmt: skip
    place = 1
    for level, block in enumerate(unet.down_blocks):
        for layer in range(len(block.resnets)):
            names |= _resnet(f"down_blocks.{level}.resnets.{layer}", f"input_blocks.{place}.0")
            names[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{place}.1"
            place += 1
        if block.downsamplers:
            names[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{place}.0.op"
            place += 1
    place = 0
    for level, block in enumerate(unet.up_blocks):
        has_attention = hasattr(block, "attentions")
        for layer in range(len(block.resnets)):
            names |= _resnet(f"up_blocks.{level}.resnets.{layer}", f"output_blocks.{place}.0")
            names[f"up_blocks.{level}.attentions.{layer}"] = f"output_blocks.{place}.1"
            if block.upsamplers and layer == len(block.resnets) - 1:
                names[f"up_blocks.{level}.upsamplers.0.conv"] = (
                    f"output_blocks.{place}.{2 if has_attention else 1}.conv"
                )
            place += 1
    return names


def _resnet(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{part}": f"{theirs}.{name}" for part, name in RESNET.items()}


def _vae_names(vae: Any) -> dict[str, str]:
    names = {part: part for part in ("quant_conv", "post_quant_conv")}
    count = len(vae.config.block_out_channels)
    for side, blocks in (("encoder", "down"), ("decoder", "up")):
        names |= {f"{side}.conv_in": f"{side}.conv_in", f"{side}.conv_out": f"{side}.conv_out"}
        names[f"{side}.conv_norm_out"] = f"{side}.norm_out"
        for place, layer in ((0, 1), (1, 2)):
            names[f"{side}.mid_block.resnets.{place}"] = f"{side}.mid.block_{layer}"
        names |= {f"{side}.mid_block.attentions.0.{a}": f"{side}.mid.attn_1.{b}" for a, b in VAE_ATTENTION.items()}
        for level in range(count):
            theirs = level if blocks == "down" else count - 1 - level
            ours = f"{side}.{blocks}_blocks.{level}"
            for layer in range(4):
                names[f"{ours}.resnets.{layer}"] = f"{side}.{blocks}.{theirs}.block.{layer}"
                names[f"{ours}.resnets.{layer}.conv_shortcut"] = f"{side}.{blocks}.{theirs}.block.{layer}.nin_shortcut"
            names[f"{ours}.{blocks}samplers.0.conv"] = f"{side}.{blocks}.{theirs}.{blocks}sample.conv"
    return names
