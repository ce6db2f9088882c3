"""Weighted and long prompts: what they do to the encoder's states, and what they leave as it is."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from brushwork import chunks, families, generate
from brushwork.errors import ConfigError
from brushwork.grammar import Piece, weigh

if TYPE_CHECKING:
    from brushwork.values import Family


@pytest.fixture(scope="module")
def family() -> Family:
    return families.load("mini")


def states(family: Family, text: str, clip_skip: int = 1) -> torch.Tensor:
    with torch.no_grad():
        return family.encode_pieces([weigh(text)], clip_skip).tensors["states"]  # type: ignore[attr-defined]


def test_words_without_weights_have_the_states_of_the_pipeline_bit_for_bit(family: Family) -> None:
    for text in ("a dog", "", "a small red car on a blue background, with a house"):
        with torch.no_grad():
            assert torch.equal(states(family, text), family.encode_text([text]).tensors["states"])
    with torch.no_grad():
        expected = family.pipeline().encode_prompt("a dog", "cpu", 1, do_classifier_free_guidance=False)[0]
    assert torch.equal(states(family, "(a dog:1.0)"), expected)


def test_a_weight_scales_its_tokens_and_keeps_the_mean(family: Family) -> None:
    plain, heavy = states(family, "a red dog")[0], states(family, "a (red:1.5) dog")[0]
    assert torch.allclose(plain.mean(), heavy.mean(), atol=1e-5)
    ratio = (heavy / plain).median(dim=1).values
    assert torch.allclose(ratio[2] / ratio[1], torch.tensor(1.5), atol=1e-4)
    assert torch.allclose(ratio[3:], ratio[0].expand(len(ratio) - 3), atol=1e-4)


def test_long_prompts_are_read_to_the_end_in_chunks(family: Family) -> None:
    length = family.tokenizers["text_encoder"].model_max_length
    long = "a dog, " * length
    assert states(family, long).shape[1] % length == 0
    assert states(family, long).shape[1] > length
    one, two = states(family, "a dog BREAK a cat").chunk(2, dim=1)
    assert torch.equal(one, states(family, "a dog"))
    assert torch.equal(two, states(family, "a cat"))


def test_a_chunk_ends_at_a_comma_that_is_near(family: Family) -> None:
    tokenizer = family.tokenizers["text_encoder"]
    room = tokenizer.model_max_length - 2
    words = "dog " * (room - 5) + ", " + "cat " * 10
    first, second = chunks.cut([Piece(words)], tokenizer)
    assert len(first.ids) == room - 4
    assert len(second.ids) == 10
    far = "dog , " + "cat " * (room + 3)
    assert [len(each.ids) for each in chunks.cut([Piece(far)], tokenizer)] == [room, 5]


def test_clip_skip_ends_before_the_last_layer(family: Family) -> None:
    """As a text encoder that has one layer less."""
    shorter = copy.deepcopy(family)
    encoder = shorter.text_encoders["text_encoder"]
    layers = getattr(encoder, "text_model", encoder).encoder.layers
    del layers[-1]
    with torch.no_grad():
        expected = shorter.encode_text(["a dog"]).tensors["states"]
    assert torch.allclose(states(family, "a dog", clip_skip=2), expected, atol=1e-6)
    with pytest.raises(ConfigError, match="clip_skip: 9 is not from 1"):
        states(family, "a dog", clip_skip=9)


def drawn(family: Family, prompt: str, **more: object) -> np.ndarray:  # type: ignore[type-arg]
    request = generate.Request(prompt, seed=3, steps=4, sampler="Euler", grammar=True, **more)  # type: ignore[arg-type]
    return np.asarray(next(generate.draw(family, [request])).image, int)


def test_what_is_drawn_with_the_grammar(family: Family) -> None:
    plain = generate.Request("a dog", seed=3, steps=4, sampler="Euler")
    as_ever = np.asarray(next(generate.draw(family, [plain])).image, int)
    assert np.abs(drawn(family, "a dog") - as_ever).max() <= 1
    assert (drawn(family, "a (dog:1.4)") != as_ever).any()
    assert (drawn(family, "a [dog:cat:4]") == drawn(family, "a dog")).all()
    assert (drawn(family, "a [dog:cat:0]") == drawn(family, "a cat")).all()
    between = drawn(family, "a [dog:cat:0.5]")
    assert (between != drawn(family, "a dog")).any()
    assert (between != drawn(family, "a cat")).any()
    assert (drawn(family, "a dog", clip_skip=2) != as_ever).any()
