"""A whole Stable Diffusion 1, 2 or XL as one file, with the original code's names: for ``from_single_file`` and UIs.

    tensors = write({"unet": unet, "vae": vae, "text_encoder": encoder}, prediction="epsilon")

The UNet is ``model.diffusion_model.``, the VAE ``first_stage_model.``. Texts: 1 has OpenAI's CLIP by transformers'
names, 2 has OpenCLIP's, XL both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.errors import ModelError, listing
from brushwork.formats import ldm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

VERSIONS = ("sd1", "sd2", "sdxl")
_SIDES = ("q", "k", "v")


def version(parts: Mapping[str, nn.Module]) -> str:
    """Return which of the three layouts a model has.

    Raises:
        ModelError: It has none of them.
    """
    unet: Any = parts.get("unet")
    if unet is None or type(unet).__name__ != "UNet2DConditionModel":
        kind = type(parts.get("transformer", unet)).__name__
        message = (
            f"export: a single file holds Stable Diffusion 1, 2 or XL; this is a {kind}. Its UIs load the denoiser and "
            f"the text encoders from files of their own.\nUse --to diffusers, or export the adapter alone."
        )
        raise ModelError(message)
    if unet.config.addition_embed_type == "text_time":
        return "sdxl"
    encoder: Any = parts["text_encoder"]
    return "sd2" if encoder.config.hidden_act == "gelu" else "sd1"


def write(parts: Mapping[str, nn.Module], *, prediction: str = "epsilon", zero_snr: bool = False) -> dict[str, Tensor]:
    """Return the tensors of the file.

    Args:
        parts: ``unet``, ``vae``, ``text_encoder`` and for XL ``text_encoder_2``.
        prediction: What the UNet predicts; for XL the file itself says so where it is not the noise.
        zero_snr: Whether the noise schedule ends in pure noise; likewise.

    Raises:
        ModelError: The model is no Stable Diffusion, or a tensor has no name in the original code.
    """
    import torch

    layout = version(parts)
    unet: Any = parts["unet"]
    tensors = _named(unet, ldm.unet_names(unet), "model.diffusion_model.")
    tensors |= _vae(parts["vae"])
    if layout == "sd1":
        tensors |= _transformers(parts["text_encoder"], "cond_stage_model.transformer.")
    elif layout == "sd2":
        tensors |= _open_clip(parts["text_encoder"], "cond_stage_model.model.")
    else:
        _tell_apart(parts["text_encoder"], parts["text_encoder_2"])
        tensors |= _transformers(parts["text_encoder"], "conditioner.embedders.0.transformer.")
        tensors |= _open_clip(parts["text_encoder_2"], "conditioner.embedders.1.model.")
        if prediction == "v_prediction":  # ComfyUI, Forge and A1111 look for these empty marks
            tensors["v_pred"] = torch.empty(0)
        if zero_snr:
            tensors["ztsnr"] = torch.empty(0)
    return {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}


def _tell_apart(first: Any, second: Any) -> None:
    """Refuse two text encoders of one width: diffusers' reader would fill both from the first's tensors."""
    width = first.config.hidden_size
    if width == second.config.hidden_size:
        message = (
            f"export: both text encoders are {width} wide, and diffusers tells them apart in a single file by that.\n"
            f"Use --to diffusers."
        )
        raise ModelError(message)


def _named(module: Any, names: Mapping[str, str], prefix: str) -> dict[str, Tensor]:
    """Return a module's tensors under other names; every one of them has to have one."""
    named: dict[str, Tensor] = {}
    nameless = []
    for key, tensor in module.state_dict().items():
        theirs = ldm.rename(key, names)
        if theirs is None:
            nameless.append(key)
        else:
            named[prefix + theirs] = tensor
    if nameless:
        message = (
            f"export: {len(nameless)} tensors of the {type(module).__name__} have no name in a single file: "
            f"{listing(nameless, 2)}.\nUse --to diffusers."
        )
        raise ModelError(message)
    return named


def _vae(vae: Any) -> dict[str, Tensor]:
    """Return the VAE's; its attention is a convolution of one pixel there, with two more axes."""
    tensors = _named(vae, ldm.vae_names(vae), "first_stage_model.")
    return {
        key: tensor[..., None, None] if ".attn_1." in key and tensor.ndim == 2 else tensor  # noqa: PLR2004  (a matrix)
        for key, tensor in tensors.items()
    }


def _transformers(encoder: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{ldm.hugging_face_name(key)}": tensor for key, tensor in encoder.state_dict().items()}


def _open_clip(encoder: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return a CLIP text model's tensors as OpenCLIP has them: queries, keys and values are one there."""
    import torch

    state = {ldm.hugging_face_name(key): tensor for key, tensor in encoder.state_dict().items()}
    embeddings = "text_model.embeddings."
    tensors = {
        "token_embedding.weight": state.pop(f"{embeddings}token_embedding.weight"),
        "positional_embedding": state.pop(f"{embeddings}position_embedding.weight"),
        "ln_final.weight": state.pop("text_model.final_layer_norm.weight"),
        "ln_final.bias": state.pop("text_model.final_layer_norm.bias"),
    }
    state.pop(f"{embeddings}position_ids", None)
    if "text_projection.weight" in state:
        tensors["text_projection"] = state.pop("text_projection.weight").T
    joined: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        number, _, rest = key.removeprefix("text_model.encoder.layers.").partition(".")
        block = f"transformer.resblocks.{number}."
        layer, _, end = rest.rpartition(".")
        if layer.removeprefix("self_attn.")[:1] in _SIDES and layer.endswith("_proj") and "out" not in layer:
            joined.setdefault(f"{block}attn.in_proj_{end}", {})[layer.removeprefix("self_attn.")[0]] = tensor
        else:
            tensors[f"{block}{ldm.OPEN_CLIP[layer]}.{end}"] = tensor
    tensors |= {key: torch.cat([sides[side] for side in _SIDES]) for key, sides in joined.items()}
    return {prefix + key: tensor for key, tensor in tensors.items()}
