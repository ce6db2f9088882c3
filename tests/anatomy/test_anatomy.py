"""What is shown of a model is true: nothing is changed by looking, weights and shapes are those that were used."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tiny_families
import torch
from PIL import Image

from brushwork import families, generate, models
from brushwork.anatomy import attention, emergence, overview, page, round_trip, shapes, tokens
from brushwork.anatomy.gallery import Captioned
from brushwork.errors import ModelError
from brushwork.generate import Request

if TYPE_CHECKING:
    from pathlib import Path

PROMPT = "a red cat"


@pytest.fixture(scope="module")
def model(tiny_sd: Path) -> Any:
    return models.open_model(str(tiny_sd), device="cpu")


@pytest.fixture(scope="module")
def mini() -> Any:
    return models.open_model("mini", device="cpu")


def test_listening_changes_no_bit_of_the_picture_and_leaves_the_model_as_it_was(mini: Any) -> None:
    request = Request("an owl, old ink engraving", negative_prompt="blue", seed=3, steps=3)
    before = {name: module.processor for name, module in attention.layers(mini.family.denoiser).items()}
    plain = next(generate.draw(mini.family, [request])).image
    drawn = emergence.draw(mini.family, request)
    assert np.array_equal(np.asarray(drawn.image), np.asarray(plain))
    assert before == {name: module.processor for name, module in attention.layers(mini.family.denoiser).items()}
    assert not any(module._forward_hooks for module in mini.family.denoiser.modules())
    assert np.array_equal(np.asarray(next(generate.draw(mini.family, [request])).image), np.asarray(plain))


def test_attention_is_softmax_of_queries_and_keys_as_hooks_see_them(model: Any) -> None:
    denoiser, request = model.family.denoiser, Request(PROMPT, steps=2)
    found = attention.layers(denoiser)
    name, layer = next(iter(found.items()))
    seen: dict[str, list[torch.Tensor]] = {"to_q": [], "to_k": [], "to_v": [], "out": []}
    handles = [
        getattr(layer, part).register_forward_hook(lambda _m, _i, out, part=part: seen[part].append(out))
        for part in ("to_q", "to_k", "to_v")
    ]
    handles.append(layer.to_out[0].register_forward_pre_hook(lambda _m, given: seen["out"].append(given[0])))
    with attention.recording(denoiser) as record:
        next(generate.draw(model.family, [request]))
    for handle in handles:
        handle.remove()
    assert set(record.sums) == set(found)
    assert record.counts[name] == 2

    # Of the two computations that the hooks see in each step, the layer's own has both halves of the guided batch.
    whole = {part: [each for each in seen[part] if len(each) == 2] for part in seen}
    total = torch.zeros_like(record.sums[name])
    for query, key, value, mixed in zip(*(whole[part] for part in ("to_q", "to_k", "to_v", "out")), strict=True):
        heads = [each[-1].unflatten(-1, (layer.heads, -1)).transpose(0, 1) for each in (query, key, value)]
        weights = torch.softmax(heads[0] @ heads[1].transpose(-1, -2) / math.sqrt(heads[0].shape[-1]), dim=-1)
        torch.testing.assert_close((weights @ heads[2]).transpose(0, 1).flatten(1), mixed[-1], atol=1e-5, rtol=1e-4)
        total = total + weights.mean(dim=0)
    torch.testing.assert_close(record.sums[name], total, atol=1e-5, rtol=1e-4)


def test_the_weights_of_a_place_sum_to_one_over_the_tokens(mini: Any) -> None:
    drawn = emergence.draw(mini.family, Request(PROMPT, steps=2, width=64, height=96))
    assert drawn.attention is not None
    assert drawn.attention.shape == (77, 24, 16)
    torch.testing.assert_close(drawn.attention.sum(dim=0), torch.ones(24, 16), atol=1e-5, rtol=0)
    found = overview.explain(mini, Request(PROMPT, steps=2))
    assert found.words is not None
    assert sum(each.share for each in found.words) + found.rest == pytest.approx(1)


def test_a_layer_whose_keys_are_set_by_hand_looks_where_it_is_told() -> None:
    from diffusers.models.attention_processor import Attention

    layer = Attention(query_dim=2, cross_attention_dim=3, heads=1, dim_head=3).eval()
    with torch.no_grad():
        layer.to_q.weight.copy_(torch.tensor([[50.0, 0.0], [0.0, 50.0], [0.0, 0.0]]))
        layer.to_k.weight.copy_(torch.eye(3))
    picture = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])  # 2 x 2 places that ask for 0, 1, 0, 1
    text = torch.eye(3)[None]  # three tokens, of which the last is asked for by none
    record = attention.Record()
    layer.processor = attention.Listener("it", layer.processor, record)
    with torch.no_grad():
        layer(picture, encoder_hidden_states=text)
    maps = record.maps((2, 2))
    torch.testing.assert_close(maps[0], torch.tensor([[1.0, 0.0], [1.0, 0.0]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(maps[1], 1 - maps[0], atol=1e-6, rtol=0)
    assert maps[2].max() < 1e-6


def test_without_cross_attention_there_are_no_maps_and_the_page_says_why(
    model: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no cross-attention"):
        attention.Record().maps((4, 4))
    monkeypatch.setattr(attention, "layers", lambda _denoiser: {})
    found = overview.explain(model, Request(PROMPT, steps=1))
    assert found.words is None
    assert "both attend jointly" in found.missing["attention"]
    assert "both attend jointly" in page.write(found, tmp_path / "page.html").read_text("utf-8")


@pytest.mark.parametrize("sampler", ["DPM++ 2M", "Euler a", "DDIM"])
def test_expected_pictures_end_in_the_picture_that_is_drawn(mini: Any, sampler: str) -> None:
    drawn = emergence.draw(mini.family, Request("an owl, old ink engraving", seed=1, steps=8, sampler=sampler))
    last = np.asarray(drawn.frames[-1].x0, np.float64)
    assert np.abs(last - np.asarray(drawn.image)).mean() < 6, "the last expectation is nearly the picture"
    assert [frame.number for frame in drawn.frames] == list(range(8))
    noise = [frame.noise for frame in drawn.frames]
    assert noise == sorted(noise, reverse=True)


def test_a_noted_prediction_is_guided_as_its_family_guides(tmp_path: Path) -> None:
    """Qwen-Image brings every token back to its length; Euler's next latents follow from what was noted."""
    family = families.load(str(tiny_families.make("qwen_image", tmp_path / "base")))
    request = Request(PROMPT, steps=2, guidance_scale=4.0, sampler="Euler", width=32, height=32)
    listening: Any = emergence.Listening(family, request)
    next(generate.draw(listening, [request]))
    first, second = listening.calls
    distance = emergence.noise_level(family, second.timestep) - emergence.noise_level(family, first.timestep)
    torch.testing.assert_close(second.latents, first.latents + distance * first.predicted, rtol=1e-4, atol=1e-4)


def test_the_expected_picture_follows_from_the_prediction(model: Any) -> None:
    family = model.family
    x0, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    alpha = float(family.alphas_cumprod[400])
    xt = math.sqrt(alpha) * x0 + math.sqrt(1 - alpha) * noise
    torch.testing.assert_close(emergence.clean(family, emergence.Call(400, xt, noise)), x0, atol=1e-5, rtol=1e-4)
    assert emergence.noise_level(family, 400) == pytest.approx(1 - alpha)
    between = emergence.noise_level(family, 400.5)
    assert 1 - alpha < between < 1 - float(family.alphas_cumprod[401])


def test_the_expected_picture_of_a_flow_follows_from_its_velocity() -> None:
    class Flow:
        prediction = "flow"

    x0, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    call = emergence.Call(300.0, 0.7 * x0 + 0.3 * noise, noise - x0)
    torch.testing.assert_close(emergence.clean(Flow(), call), x0, atol=1e-5, rtol=1e-4)  # type: ignore[arg-type]


def test_a_family_that_draws_by_itself_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = next(generate.draw(model.family, [Request(PROMPT, steps=1)]))
    monkeypatch.setattr(generate, "draw", lambda *_: iter([picture]))
    with pytest.raises(ModelError, match="draws by a pipeline of its own"):
        emergence.draw(model.family, Request(PROMPT, steps=1))


def test_words_are_put_together_and_what_is_cut_off_is_told(mini: Any, model: Any) -> None:
    (read,) = tokens.tokenize(mini.family, "an owl, engraving")
    assert read.words == ("an", "owl", ",", "engraving")
    assert [piece.word for piece in read.pieces] == [None, 0, 1, 2, 3, None]
    assert mini.family.tokenizers["text_encoder"].convert_ids_to_tokens(read.pieces[2].id) == "owl</w>"
    assert (read.length, read.unread) == (77, "")
    (letters,) = tokens.tokenize(model.family, "x" * 80 + "yz")
    assert (len(letters.pieces), len(letters.words)) == (77, 1), "75 letters between start and end, all of one word"
    assert letters.unread == "xxxxxyz"


def test_a_learned_word_is_a_word_of_its_own() -> None:
    assert tokens._words(["a</w>", "<dog>", "run", "s</w>"], {"<dog>"}) == ([0, 1, 2, 2], ["a", "<dog>", "runs"])
    assert tokens._words(["a", "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}do", "g"]) == ([0, 1, 1], ["a", "dog"])
    assert tokens._words(["\N{LOWER ONE EIGHTH BLOCK}a", "\N{LOWER ONE EIGHTH BLOCK}do", "g"]) == (
        [0, 1, 1],
        ["a", "dog"],
    )


def test_shapes_of_stable_diffusion_1_are_the_known_ones() -> None:
    """77 x 768 words, 4 x 64 x 64 latents, 3 x 512 x 512 pixels: run on the meta device, without any weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        sizes = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
        text = CLIPTextModel(CLIPTextConfig(**sizes))
        unet = UNet2DConditionModel(cross_attention_dim=768, attention_head_dim=8, sample_size=64)
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        with torch.no_grad(), shapes.tracing(text=text, unet=unet, encoder=vae.encoder, decoder=vae.decoder) as rows:
            states = text(torch.zeros(1, 77, dtype=torch.long))[0]
            unet(torch.zeros(1, 4, 64, 64), torch.zeros(1), states)
            vae.decoder(torch.zeros(1, 4, 64, 64))
            vae.encoder(torch.zeros(1, 3, 512, 512))
    found = {(row.part, row.name): row for row in rows}
    assert (found["text", "text"].inside, found["text", "text"].outside) == ((77,), (77, 768))
    assert found["unet", "unet"].parameters == 859_520_964
    assert found["unet", "conv_in"].outside == (320, 64, 64)
    assert found["unet", "down_blocks.0"].outside == (320, 32, 32)
    assert found["unet", "mid_block"].outside == (1280, 8, 8)
    assert found["unet", "up_blocks.3"].outside == (320, 64, 64)
    assert (found["unet", "unet"].inside, found["unet", "unet"].outside) == ((4, 64, 64), (4, 64, 64))
    assert (found["decoder", "decoder"].inside, found["decoder", "decoder"].outside) == ((4, 64, 64), (3, 512, 512))
    assert (found["encoder", "encoder"].inside, found["encoder", "encoder"].outside) == ((3, 512, 512), (8, 64, 64))
    assert {"encoder.layers.0", "encoder.layers.11"} <= {row.name for row in rows if row.part == "text"}
    assert not any(module._forward_hooks for module in unet.modules())


def test_the_round_trip_is_that_of_the_vae_alone(mini: Any) -> None:
    picture = Image.effect_noise((64, 64), 60).convert("RGB")
    trip = round_trip.go(mini.family, picture, "noise")
    values = torch.from_numpy(np.array(picture, np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        back = mini.family.vae.decode(mini.family.vae.encode(values).latent_dist.mean).sample
    again = ((back[0].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1) * 255).round().numpy()
    error = ((again - np.asarray(picture, np.float64)) ** 2).mean()
    assert trip.psnr == pytest.approx(10 * math.log10(255**2 / error), abs=0.01)
    assert (trip.pixels, trip.latents) == ((3, 64, 64), (4, 16, 16))
    assert round_trip.fitted(mini.family, Image.new("RGB", (300, 200))).size == (64, 64)


def test_the_page_is_complete_in_itself_and_escapes_what_is_given(model: Any, tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    pictures = [Captioned(hostile, caption, Image.new("RGB", (40, 30), caption)) for caption in ("red", "blue")]
    found = overview.explain(model, Request(hostile, steps=1), pictures=pictures, judge="mini-clip")
    text = page.write(found, tmp_path / "page.html").read_text("utf-8")
    assert "<img src=x" not in text
    assert "<script" not in text
    assert "https://" not in text
    assert found.similarity is not None
    assert found.similarity.matrix.shape == (2, 2)
    told = found.to_dict()
    assert told["similarity"]["captions"] == ["red", "blue"]
    assert told["request"]["width"] == 32
