"""An adapter written for another program and read back is the same adapter, and does what its numbers say there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from architectures import sdxl
from tiny_parts import PARTS

from brushwork.errors import ModelError
from brushwork.formats import fused, reading, writing
from brushwork.formats.keymaps import KeyMap
from brushwork.formats.layers import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

TARGETS: tuple[writing.Target, ...] = ("kohya", "comfyui")


def make_layers(parts: Mapping[str, nn.Module], *, alpha: float = 3.0, rank: int = 2) -> dict[str, Layer]:
    """Return a random LoRA on every layer of a model that has a name in other programs."""
    generator = torch.Generator().manual_seed(0)
    names = KeyMap(parts)
    layers = {}
    for place in names.places:
        for key in place.layers:
            out, inner, *kernel = names.shapes[key]
            down = torch.randn(rank, inner, *kernel, generator=generator)
            up = torch.randn(out, rank, *[1] * len(kernel), generator=generator)
            layers[key] = Layer("lora", {"down": down, "up": up}, alpha)
    return layers


def same(one: Mapping[str, Layer], other: Mapping[str, Layer]) -> bool:
    return set(one) == set(other) and all(
        one[key].alpha == other[key].alpha
        and set(one[key].tensors) == set(other[key].tensors)
        and all(torch.equal(tensor, other[key].tensors[name]) for name, tensor in one[key].tensors.items())
        for key in one
    )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", PARTS)
def test_written_and_read_back_it_is_the_same_to_the_last_bit(name: str, target: writing.Target) -> None:
    parts = PARTS[name]()
    layers = make_layers(parts)
    tensors = writing.write(layers, parts, target)
    back = reading.read(tensors, {}, parts, "style")
    assert same(layers, back)
    other: writing.Target = "comfyui" if target == "kohya" else "kohya"
    again = reading.read(writing.write(back, parts, other), {}, parts, "style")
    assert same(layers, again)
    fused_again = writing.write(again, parts, target)
    assert set(tensors) == set(fused_again)
    assert all(torch.equal(tensors[key], fused_again[key]) for key in tensors)


@pytest.mark.parametrize(
    "form",
    ["{layer}.lora_{AB}.weight", "{layer}.lora.{down_up}.weight", "base_model.model.{layer}.lora_{AB}.default.weight"],
)
@pytest.mark.parametrize("name", PARTS)
def test_the_forms_of_diffusers_and_peft_are_read(name: str, form: str) -> None:
    parts = PARTS[name]()
    layers = make_layers(parts, alpha=2.0)
    tensors = {}
    for key, layer in layers.items():
        tensors[form.format(layer=key, AB="A", down_up="down")] = layer.tensors["down"]
        tensors[form.format(layer=key, AB="B", down_up="up")] = layer.tensors["up"]
    back = reading.read(tensors, {}, parts, "style")
    assert back.keys() == layers.keys()
    assert all(torch.equal(back[key].tensors["up"], layer.tensors["up"]) for key, layer in layers.items())


@pytest.mark.parametrize("target", TARGETS)
def test_each_part_of_a_fused_layer_may_be_missing_or_of_another_rank(target: writing.Target) -> None:
    parts = PARTS["flux"]()
    every = make_layers(parts)
    some = {key: layer for key, layer in every.items() if key.endswith(("to_q", "to_v", "proj_out"))}
    assert same(some, reading.read(writing.write(some, parts, target), {}, parts, "style"))
    wide = make_layers(parts, rank=3, alpha=4.5)
    uneven = {key: wide[key] if key.endswith("to_v") else layer for key, layer in some.items()}
    back = reading.read(writing.write(uneven, parts, target), {}, parts, "style")
    assert back.keys() == uneven.keys()
    for key, layer in uneven.items():
        assert back[key].rank == layer.rank
        torch.testing.assert_close(back[key].delta(layer.shape), layer.delta(layer.shape))


def test_a_fused_layer_of_another_trainer_keeps_its_one_matrix(tmp_path: Any) -> None:  # noqa: ARG001
    """sd-scripts trains one LoRA on the fused layer: all three read it, and written again it is that one."""
    parts = PARTS["flux"]()
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    file = {
        f"{stem}.lora_down.weight": torch.randn(2, 8),
        f"{stem}.lora_up.weight": torch.randn(24, 2),
        f"{stem}.alpha": torch.tensor(1.0),
    }
    layers = reading.read(file, {}, parts, "style")
    assert [key.rsplit(".", 1)[1] for key in layers] == ["to_q", "to_k", "to_v"]
    whole = torch.cat([layer.delta((8, 8)) for layer in layers.values()])
    torch.testing.assert_close(whole, file[f"{stem}.lora_up.weight"] @ file[f"{stem}.lora_down.weight"] / 2)
    assert all(torch.equal(tensor, file[key]) for key, tensor in writing.write(layers, parts, "kohya").items())


def test_fused_and_split_updates_are_the_stacked_ones() -> None:
    members = [Layer("lora", {"down": torch.randn(2, 5), "up": torch.randn(3, 2)}, alpha) for alpha in (1.0, 4.0)]
    whole = fused.fuse(members, (3, 3))
    torch.testing.assert_close(whole.delta((6, 5)), torch.cat([each.delta((3, 5)) for each in members]))
    swapped = fused.swap(whole).delta((6, 5))
    assert torch.equal(swapped, torch.cat(whole.delta((6, 5)).chunk(2)[::-1]))


def test_in_kohyas_form_diffusers_adds_the_same_to_every_layer() -> None:
    """By alpha / rank, which is not 1; on SDXL, whose layers have other names there."""
    from diffusers import StableDiffusionXLPipeline

    parts = PARTS["sdxl"]()
    layers = {
        key: layer
        for key, layer in make_layers(parts).items()
        if key.startswith("unet.") and (".attn" in key or "proj_in" in key)
    }
    unet = parts["unet"]
    before = {key: unet.get_submodule(key.partition(".")[2]).weight.detach().clone() for key in layers}
    state, alphas = StableDiffusionXLPipeline.lora_state_dict(
        writing.write(layers, parts, "kohya"), unet_config=unet.config
    )
    StableDiffusionXLPipeline.load_lora_into_unet(state, alphas, unet)
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted = {f"unet.{name}": each for name, each in unet.named_modules() if isinstance(each, BaseTunerLayer)}
    assert set(adapted) == set(layers)
    for key, layer in layers.items():
        adapted[key].merge()
        change = adapted[key].get_base_layer().weight - before[key]
        torch.testing.assert_close(change, layer.delta(change.shape), rtol=1e-4, atol=1e-4)


def test_in_kohyas_form_diffusers_adds_the_same_to_flux() -> None:
    """At FLUX' own width, which is written into its reader; one block of each kind."""
    from diffusers import FluxPipeline, FluxTransformer2DModel

    with torch.device("meta"):
        parts = {"transformer": FluxTransformer2DModel(num_layers=1, num_single_layers=1)}
    ends = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "proj_mlp")
    layers = {key: layer for key, layer in make_layers(parts).items() if key.endswith(ends)}
    converted = FluxPipeline.lora_state_dict(writing.write(layers, parts, "kohya"))
    pairs = {key.removesuffix(".lora_A.weight"): tensor for key, tensor in converted.items() if ".lora_A" in key}
    assert set(layers) <= set(pairs)
    for key, layer in layers.items():
        theirs = converted[f"{key}.lora_B.weight"] @ pairs[key]
        probe = torch.randn(layer.shape[1], 2)
        ours = layer.tensors["up"] @ (layer.tensors["down"] @ probe) * layer.scale
        torch.testing.assert_close(theirs @ probe, ours, rtol=1e-3, atol=1e-2)


def lycoris(kind: str, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Return random tensors of one layer as LyCORIS names them."""
    out, inner, *kernel = shape
    taps = kernel[0] * kernel[1] if kernel else 1
    if kind == "loha":
        sizes: dict[str, tuple[int, ...]] = {"hada_w1_a": (out, 2), "hada_w1_b": (2, inner * taps)}
        sizes |= {"hada_w2_a": (out, 2), "hada_w2_b": (2, inner * taps)}
    elif kind == "loha with a core":
        sizes = {f"hada_w{n}_{side}": (2, width) for n in (1, 2) for side, width in (("a", out), ("b", inner))}
        sizes |= {"hada_t1": (2, 2, *kernel), "hada_t2": (2, 2, *kernel)}
    elif kind == "lokr":
        sizes = {"lokr_w1": (2, 2), "lokr_w2_a": (out // 2, 2), "lokr_w2_b": (2, inner // 2 * taps)}
    elif kind == "lokr of two wholes":
        sizes = {"lokr_w1": (2, 2), "lokr_w2": (out // 2, inner // 2, *kernel)}
    else:
        sizes = {"lora_down.weight": (2, inner, 1, 1), "lora_mid.weight": (2, 2, *kernel)}
        sizes |= {"lora_up.weight": (out, 2, 1, 1)}
    return {name: torch.randn(size) for name, size in sizes.items()}


def by_hand(kind: str, file: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
    """Return the update by the papers' formulas, one element at a time where that is plainer."""
    if kind == "loha":
        return (file["hada_w1_a"] @ file["hada_w1_b"] * (file["hada_w2_a"] @ file["hada_w2_b"])).reshape(shape)
    if kind == "loha with a core":
        first, second = (
            torch.einsum(
                "abkl,ao,bi->oikl", file[f"hada_t{n}"].transpose(0, 1), file[f"hada_w{n}_b"], file[f"hada_w{n}_a"]
            )
            for n in (1, 2)
        )
        return (first * second).transpose(0, 1).reshape(shape)
    if kind.startswith("lokr"):
        second = file["lokr_w2"] if "lokr_w2" in file else file["lokr_w2_a"] @ file["lokr_w2_b"]
        second = second.reshape(shape[0] // 2, shape[1] // 2, *shape[2:])
        rows = [torch.cat([file["lokr_w1"][row, column] * second for column in (0, 1)], 1) for row in (0, 1)]
        return torch.cat(rows)
    up, mid, down = (file[f"lora_{side}.weight"] for side in ("up", "mid", "down"))
    return torch.einsum("or,rskl,si->oikl", up[..., 0, 0], mid, down[..., 0, 0])


@pytest.mark.parametrize("kind", ["loha", "loha with a core", "lokr", "lokr of two wholes", "locon with a core"])
def test_lycoris_files_are_read_as_their_formulas_say_and_written_as_they_were(kind: str) -> None:
    parts = PARTS["sd"]()
    shape = (16, 16, 3, 3)
    stem = "lora_unet_mid_block_resnets_0_conv1"
    file = {f"{stem}.{name}": tensor for name, tensor in lycoris(kind, shape).items()}
    scale = 1.0
    if kind != "lokr of two wholes":
        file[f"{stem}.alpha"], scale = torch.tensor(3.0), 1.5
    (layer,) = reading.read(file, {}, parts, "style").values()
    bare = {key.removeprefix(f"{stem}."): tensor for key, tensor in file.items()}
    torch.testing.assert_close(layer.delta(shape), by_hand(kind, bare, shape) * scale, rtol=1e-4, atol=1e-4)
    written = writing.write({"unet.mid_block.resnets.0.conv1": layer}, parts, "kohya")
    assert written.keys() == file.keys()
    assert all(torch.equal(written[key], file[key]) for key in file)


@pytest.mark.parametrize("target", TARGETS)
def test_what_a_target_would_drop_or_misread_is_refused_with_what_to_do(target: writing.Target) -> None:
    parts = PARTS["flux"]()
    key = "transformer.transformer_blocks.0.attn.to_q"
    dora = make_layers(parts)[key]
    dora = Layer("lora", {**dora.tensors, "magnitude": torch.ones(8)}, 1.0)
    with pytest.raises(ModelError, match=r"is a DoRA(.|\n)*--to diffusers \(peft's form\), or --merge"):
        writing.write({key: dora}, parts, target)
    loha = Layer("loha", lycoris("loha", (8, 8)), 2.0)
    with pytest.raises(ModelError, match=r"one layer where this LoHa has 3(.|\n)*--merge"):
        writing.write({key: loha}, parts, target)


def test_an_architecture_without_published_names_is_refused() -> None:
    with torch.device("meta"):
        from diffusers import SanaTransformer2DModel

        sana = SanaTransformer2DModel(num_layers=1)
    layer = Layer("lora", {"down": torch.zeros(2, 2240), "up": torch.zeros(2240, 2)}, 1.0)
    with pytest.raises(ModelError, match=r"no names in sd-scripts.* of a SanaTransformer2DModel"):
        writing.write({"transformer.transformer_blocks.0.attn1.to_q": layer}, {"transformer": sana}, "kohya")


def test_no_two_layers_of_sdxl_share_a_name_and_comfyuis_generic_names_are_read() -> None:
    parts = sdxl()
    names = KeyMap(parts)
    assert len({place.written["kohya"] for place in names.places}) == len(names.places)
    generic = "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_k"
    assert names.spelled[generic].layers == ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_k",)
