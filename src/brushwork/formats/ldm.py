"""The names that diffusers' UNet, VAE and CLIP have in the original code of Stable Diffusion 1, 2 and XL.

    unet = unet_names(family.denoiser)      # {"down_blocks.0.resnets.0.conv1": "input_blocks.1.0.in_layers.2"}
    rename("down_blocks.0.resnets.0.conv1.weight", unet)

CompVis' latent-diffusion and Stability's generative-models number all blocks of one side through; which layers a block
has is read off the model itself, so any depth and width is named rightly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",  # SDXL: sizes and the pooled text
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
OPEN_CLIP = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def rename(key: str, names: Mapping[str, str]) -> str | None:
    """Replace the longest known beginning of a dotted key; None when there is none."""
    head, tail = key, ""
    while head:
        if head in names:
            return names[head] + tail
        head, dot, last = head.rpartition(".")
        tail = f"{dot}{last}{tail}"
    return None


def unet_names(unet: Any) -> dict[str, str]:
    """Return what the modules of a ``UNet2DConditionModel``, or its encoder's copy, are called in the original code."""
    names = dict(UNET_ENDS)
    place = 1
    for level, block in enumerate(unet.down_blocks):
        ours = f"down_blocks.{level}"
        for layer in range(len(block.resnets)):
            names |= _resnet(f"{ours}.resnets.{layer}", f"input_blocks.{place}.0")
            names[f"{ours}.attentions.{layer}"] = f"input_blocks.{place}.1"
            place += 1
        if block.downsamplers:
            names[f"{ours}.downsamplers.0.conv"] = f"input_blocks.{place}.0.op"
            place += 1
    middle = [("resnets", 0), ("attentions", 0), ("resnets", 1)]
    middle = [each for each in middle if len(getattr(unet.mid_block, each[0], ())) > each[1]]
    for index, (kind, number) in enumerate(middle):
        ours, theirs = f"mid_block.{kind}.{number}", f"middle_block.{index}"
        names |= _resnet(ours, theirs) if kind == "resnets" else {ours: theirs}
    place = 0
    for level, block in enumerate(getattr(unet, "up_blocks", ())):
        ours = f"up_blocks.{level}"
        for layer in range(len(block.resnets)):
            names |= _resnet(f"{ours}.resnets.{layer}", f"output_blocks.{place}.0")
            names[f"{ours}.attentions.{layer}"] = f"output_blocks.{place}.1"
            place += 1
        if block.upsamplers:  # it is the last thing in the place of the last layer
            after = 2 if len(getattr(block, "attentions", ())) else 1
            names[f"{ours}.upsamplers.0.conv"] = f"output_blocks.{place - 1}.{after}.conv"
    return names


def _resnet(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.{part}": f"{theirs}.{name}" for part, name in RESNET.items()}


def vae_names(vae: Any) -> dict[str, str]:
    """Return what the modules of an ``AutoencoderKL`` are called; the decoder's levels count from the picture side."""
    names = {part: part for part in ("quant_conv", "post_quant_conv")}
    for side, way in (("encoder", "down"), ("decoder", "up")):
        names |= {f"{side}.{end}": f"{side}.{end}" for end in ("conv_in", "conv_out")}
        names[f"{side}.conv_norm_out"] = f"{side}.norm_out"
        for number in (0, 1):
            names[f"{side}.mid_block.resnets.{number}"] = f"{side}.mid.block_{number + 1}"
        for ours, theirs in VAE_ATTENTION.items():
            names[f"{side}.mid_block.attentions.0.{ours}"] = f"{side}.mid.attn_1.{theirs}"
        blocks = getattr(getattr(vae, side), f"{way}_blocks")
        for level, block in enumerate(blocks):
            there = f"{side}.{way}.{level if way == 'down' else len(blocks) - 1 - level}"
            here = f"{side}.{way}_blocks.{level}"
            for layer in range(len(block.resnets)):
                names[f"{here}.resnets.{layer}"] = f"{there}.block.{layer}"
                names[f"{here}.resnets.{layer}.conv_shortcut"] = f"{there}.block.{layer}.nin_shortcut"
            names[f"{here}.{way}samplers.0.conv"] = f"{there}.{way}sample.conv"
    return names


def hugging_face_name(key: str) -> str:
    """Return a CLIP text model's key as the files have it: with ``text_model.``, which transformers 5 left out."""
    return key if key.startswith(("text_model.", "text_projection.")) else f"text_model.{key}"
