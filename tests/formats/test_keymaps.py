"""kohya's and ComfyUI's names of every layer of the real architectures, against diffusers' own readers of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import architectures
import pytest
import torch
from diffusers.loaders import lora_conversion_utils as theirs
from diffusers.loaders import single_file_utils as single

from brushwork.formats import dits
from brushwork.formats.keymaps import KeyMap

if TYPE_CHECKING:
    from collections.abc import Callable

TRAINED_BY_KOHYA = {"Transformer2DModel", "CLIPAttention", "CLIPMLP"}


def keys(parts: dict[str, Any], target: str) -> dict[str, tuple[str, ...]]:
    return {place.written[target]: place.layers for place in KeyMap(parts).places}


def inside(module: Any, classes: set[str]) -> list[str]:
    """Return the linear layers and 1 x 1 convolutions within modules of some classes: what sd-scripts adapts."""
    found = set()
    for path, each in module.named_modules():
        if type(each).__name__ in classes:
            for inner, layer in each.named_modules():
                weight = getattr(layer, "weight", None)
                if weight is not None and weight.ndim in (2, 4):
                    found.add(f"{path}.{inner}")
    return sorted(found)


@pytest.mark.parametrize(
    ("make", "counts"),
    [
        (architectures.sd15, {"unet": 192, "text_encoder": 72}),
        (architectures.sd2, {"unet": 192, "text_encoder": 138}),
        (architectures.sdxl, {"unet": 722, "text_encoder": 72, "text_encoder_2": 192}),
    ],
)
def test_as_many_modules_are_named_as_sd_scripts_adapts(
    make: Callable[[], dict[str, Any]], counts: dict[str, int]
) -> None:
    parts = make()
    layers = {layer for each in keys(parts, "kohya").values() for layer in each}
    for part, count in counts.items():
        adapted = inside(parts[part], TRAINED_BY_KOHYA)
        assert len(adapted) == count
        assert {f"{part}.{path}" for path in adapted} <= layers


@pytest.mark.parametrize(
    ("make", "target", "name", "layer"),
    [
        (
            architectures.sd15,
            "kohya",
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_k",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k",
        ),
        (
            architectures.sd15,
            "kohya",
            "lora_te_text_model_encoder_layers_11_mlp_fc2",
            "text_encoder.encoder.layers.11.mlp.fc2",
        ),
        (
            architectures.sdxl,
            "kohya",
            "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_k",
            "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k",
        ),
        (
            architectures.sdxl,
            "kohya",
            "lora_unet_output_blocks_5_1_transformer_blocks_1_ff_net_0_proj",
            "unet.up_blocks.1.attentions.2.transformer_blocks.1.ff.net.0.proj",
        ),
        (architectures.sdxl, "comfyui", "lora_unet_middle_block_1_proj_in", "unet.mid_block.attentions.0.proj_in"),
        (
            architectures.sdxl,
            "kohya",
            "lora_te2_text_model_encoder_layers_31_self_attn_q_proj",
            "text_encoder_2.text_model.encoder.layers.31.self_attn.q_proj",
        ),
        (
            architectures.flux,
            "kohya",
            "lora_unet_double_blocks_0_img_attn_qkv",
            "transformer.transformer_blocks.0.attn.to_q",
        ),
        (
            architectures.flux,
            "comfyui",
            "diffusion_model.single_blocks.37.linear1",
            "transformer.single_transformer_blocks.37.proj_mlp",
        ),
        (
            architectures.sd3,
            "kohya",
            "lora_unet_joint_blocks_23_context_block_attn_qkv",
            "transformer.transformer_blocks.23.attn.add_v_proj",
        ),
        (
            architectures.sd3,
            "kohya",
            "lora_te3_encoder_block_0_layer_0_SelfAttention_q",
            "text_encoder_3.encoder.block.0.layer.0.SelfAttention.q",
        ),
    ],
)
def test_published_names(make: Callable[[], dict[str, Any]], target: str, name: str, layer: str) -> None:
    found = keys(make(), target)[name]
    # Whether CLIP's layers lie within text_model is a matter of transformers' version.
    assert layer.replace(".text_model.", ".") in [each.replace(".text_model.", ".") for each in found]


def test_flux_has_the_304_modules_of_sd_scripts() -> None:
    blocks = [name for name in keys(architectures.flux(), "kohya") if "_blocks_" in name]
    assert len([name for name in blocks if name.startswith("lora_unet_double")]) == 190
    assert len([name for name in blocks if name.startswith("lora_unet_single")]) == 114


def lora_file(names: list[str]) -> dict[str, torch.Tensor]:
    ends = ("lora_down.weight", "lora_up.weight", "alpha")
    return {f"{name}.{end}": torch.zeros((1, 1) if end != "alpha" else ()) for name in names for end in ends}


def canonical(layer: str) -> str:
    """Return a layer's name as diffusers wrote it before peft's form, which its reader of kohya's files still does."""
    for new, old in (("q_proj", "to_q"), ("k_proj", "to_k"), ("v_proj", "to_v"), ("out_proj", "to_out")):
        layer = layer.replace(new, old)
    return layer.replace(".processor", "").replace(".text_model", "").replace(".to_out.0", ".to_out")


@pytest.mark.parametrize("make", [architectures.sd15, architectures.sd2, architectures.sdxl])
def test_diffusers_finds_every_layer_by_its_kohya_name(make: Callable[[], dict[str, Any]]) -> None:
    """Of those that sd-scripts adapts; diffusers' reader knows no more."""
    parts = make()
    adapted = {f"{part}.{path}" for part, each in parts.items() for path in inside(each, TRAINED_BY_KOHYA)}
    named = {name: layers[0] for name, layers in keys(parts, "kohya").items() if layers[0] in adapted}
    state = lora_file(list(named))
    if "text_encoder_2" in parts:
        state = theirs._maybe_map_sgm_blocks_to_diffusers(state, parts["unet"].config)
    converted, alphas = theirs._convert_non_diffusers_lora_to_diffusers(state)
    ends = (".lora.down.weight", ".lora_linear_layer.down.weight", ".lora_A.weight", "_lora.down.weight")
    found = {key.removesuffix(end) for key in converted for end in ends if key.endswith(end)}
    assert {canonical(each) for each in found} == {canonical(each) for each in adapted}
    assert len(alphas) == len(adapted)


def original_state(module: Any) -> dict[str, torch.Tensor]:
    """Return the weights of a transformer under their original names, each layer's rows stacked."""
    state = {}
    for name, layers, swapped in dits.original_layers(type(module).__name__, module):
        for end in ("weight", "bias"):
            tensor = torch.cat([getattr(module.get_submodule(layer), end) for layer in layers])
            state[f"{name}.{end}"] = torch.cat(tensor.chunk(2)[::-1]) if swapped else tensor
    return state


def test_diffusers_reads_flux_weights_by_our_names_back_into_place() -> None:
    """Shapes only, as its reader has FLUX' own width written into it."""
    module = architectures.flux()["transformer"]
    norms = {"query_norm": "norm_q", "key_norm": "norm_k"}
    state = original_state(module)
    for block, count, attentions in (("double_blocks", 19, ("img_attn.", "txt_attn.")), ("single_blocks", 38, ("",))):
        for number in range(count):
            for attention in attentions:
                for norm in norms:
                    state[f"{block}.{number}.{attention}norm.{norm}.scale"] = torch.zeros(128, device="meta")
    converted = single.convert_flux_transformer_checkpoint_to_diffusers(state)
    own = module.state_dict()
    assert {key: tensor.shape for key, tensor in converted.items()} == {key: each.shape for key, each in own.items()}


def test_diffusers_reads_sd3_weights_by_our_names_back_into_place() -> None:
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(0)
    module = SD3Transformer2DModel(
        sample_size=8,
        num_layers=3,
        attention_head_dim=4,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=8,
        pooled_projection_dim=16,
        out_channels=16,
        pos_embed_max_size=8,
        dual_attention_layers=(0,),
    )
    state = original_state(module)
    state["pos_embed"] = module.pos_embed.pos_embed
    converted = single.convert_sd3_transformer_checkpoint_to_diffusers(state)
    own = module.state_dict()
    assert set(converted) == set(own)
    assert all(torch.equal(converted[key], own[key]) for key in own)
