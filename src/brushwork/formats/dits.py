"""The names that the layers of diffusers' transformers have in the original code of Stable Diffusion 3 and FLUX.1.

    for original, layers, swapped in original_layers("FluxTransformer2DModel", module):
        print(original, layers)                     # double_blocks.0.img_attn.qkv ('...to_q', '...to_k', '...to_v')

Originally queries, keys and values are one layer, whose rows are those of ours one after the other. Where scale and
shift of a last modulation lie the other way round, the halves of the rows are swapped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from torch import nn

QKV, ADDED = ("attn.to_q", "attn.to_k", "attn.to_v"), ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")


class Original(NamedTuple):
    """A layer of the original code, the layers here whose rows it stacks, and whether its halves are swapped."""

    name: str
    layers: tuple[str, ...]
    swapped: bool = False


FLUX_DOUBLE: Mapping[str, tuple[str, ...]] = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": QKV,
    "txt_attn.qkv": ADDED,
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
FLUX_SINGLE: Mapping[str, tuple[str, ...]] = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
}
FLUX_ENDS: Mapping[str, str] = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
}
SD3_BLOCK: Mapping[str, tuple[str, ...]] = {
    "x_block.attn.qkv": QKV,
    "context_block.attn.qkv": ADDED,
    "x_block.attn.proj": ("attn.to_out.0",),
    "context_block.attn.proj": ("attn.to_add_out",),
    "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),  # 3.5 medium
    "x_block.attn2.proj": ("attn2.to_out.0",),
    "x_block.adaLN_modulation.1": ("norm1.linear",),
    "context_block.adaLN_modulation.1": ("norm1_context.linear",),
    "x_block.mlp.fc1": ("ff.net.0.proj",),
    "x_block.mlp.fc2": ("ff.net.2",),
    "context_block.mlp.fc1": ("ff_context.net.0.proj",),
    "context_block.mlp.fc2": ("ff_context.net.2",),
}
SD3_ENDS: Mapping[str, str] = {
    "x_embedder.proj": "pos_embed.proj",
    "context_embedder": "context_embedder",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "final_layer.linear": "proj_out",
}


def _flux(module: nn.Module) -> Iterator[Original]:
    yield from _blocks(module, "transformer_blocks", "double_blocks", FLUX_DOUBLE)
    yield from _blocks(module, "single_transformer_blocks", "single_blocks", FLUX_SINGLE)
    yield from (Original(theirs, (ours,)) for theirs, ours in FLUX_ENDS.items())
    yield Original("final_layer.adaLN_modulation.1", ("norm_out.linear",), swapped=True)


def _sd3(module: nn.Module) -> Iterator[Original]:
    last = f"joint_blocks.{_depth(module, 'transformer_blocks') - 1}.context_block.adaLN_modulation.1"
    for each in _blocks(module, "transformer_blocks", "joint_blocks", SD3_BLOCK):
        # The last block leaves its text states alone after attention: its modulation is that of a last layer.
        yield each._replace(swapped=each.name == last)
    yield from (Original(theirs, (ours,)) for theirs, ours in SD3_ENDS.items())
    yield Original("final_layer.adaLN_modulation.1", ("norm_out.linear",), swapped=True)


KNOWN: Mapping[str, Callable[[nn.Module], Iterator[Original]]] = {
    "FluxTransformer2DModel": _flux,
    "SD3Transformer2DModel": _sd3,
}
"""By the class that diffusers has for the architecture."""


def original_layers(architecture: str, module: nn.Module) -> list[Original]:
    """Return the layers of the original code that this module has, in order; none for an unknown architecture."""
    if architecture not in KNOWN:
        return []
    here = {name for name, _ in module.named_modules()}
    return [each for each in KNOWN[architecture](module) if set(each.layers) <= here]


def _depth(module: nn.Module, blocks: str) -> int:
    return len(list(module.get_submodule(blocks).children()))


def _blocks(module: nn.Module, ours: str, theirs: str, names: Mapping[str, tuple[str, ...]]) -> Iterator[Original]:
    for number in range(_depth(module, ours)):
        for name, layers in names.items():
            yield Original(f"{theirs}.{number}.{name}", tuple(f"{ours}.{number}.{layer}" for layer in layers))
