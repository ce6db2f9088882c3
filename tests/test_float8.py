"""Frozen matrices in eight bits of floating point: near the exact ones, exact gradients of what is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import rows
import tiny_families
import torch

from brushwork import config as configs
from brushwork import families, float8, models, quantization
from brushwork.errors import ConfigError
from brushwork.forecast import estimate
from brushwork.runs import RunFolder
from brushwork.train import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EPSILON = 2**-4
"""Half the distance of two neighbours with three bits of mantissa, by the smaller one."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return tiny_families.kept(tmp_path_factory.mktemp("bases"))


def test_every_weight_is_off_by_at_most_a_sixteenth_whatever_its_rows_size() -> None:
    torch.manual_seed(0)
    weight = torch.randn(8, 64) * torch.logspace(-6, 3, 8)[:, None]
    weight[3] = 0
    bits, scale = float8.encode(weight)
    back = float8.decode(bits, scale, torch.float32)
    normal = weight.abs() > scale * 2**-6  # below, numbers are evenly spaced
    assert float(((back - weight).abs() / weight.abs())[normal].max()) <= EPSILON
    assert bool(((back - weight).abs() <= scale * 2**-9)[~normal].all())
    assert bits.dtype == torch.uint8
    assert not back[3].any()


@pytest.mark.parametrize("autocast", [False, True])
def test_a_layer_is_the_product_with_the_decoded_matrix_and_so_is_its_gradient(*, autocast: bool) -> None:
    torch.manual_seed(0)
    exact = torch.nn.Linear(32, 16)
    layer: Any = float8.linear(exact)
    exact.weight.data = float8.decode(layer.weight, layer.scale, torch.float32)
    one, other = (torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected, found = exact(one), layer(other)
    assert found.dtype == expected.dtype == (torch.bfloat16 if autocast else torch.float32)
    near: dict[str, float] = {"rtol": 0.05, "atol": 0.05} if autocast else {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(found, expected, **near)
    expected.float().square().sum().backward()
    found.float().square().sum().backward()
    assert one.grad is not None
    torch.testing.assert_close(other.grad, one.grad, rtol=near["rtol"], atol=10 * near["atol"])


def test_nothing_but_the_bits_is_kept_for_the_backward_pass() -> None:
    layer: Any = float8.linear(torch.nn.Linear(32, 16))
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        layer(torch.randn(4, 32, requires_grad=True))
    assert {each.data_ptr() for each in kept} == {layer.weight.data_ptr(), layer.scale.data_ptr()}


@pytest.mark.parametrize("name", ["flux", "sd3"])
def test_a_lora_is_trained_beside_it_as_beside_the_exact_base(
    name: str, base: Callable[[str], Path], tiny_data: Path, tmp_path: Path
) -> None:
    trainers = []
    for kind in ("none", "fp8"):
        here = {"base": str(base(name)), "data": {"path": str(tiny_data)}, "method": {"rank": 2}}
        train = {"train": {"base_quantization": kind, "max_train_steps": 2, "device": "cpu"}}
        trainers.append(prepare(configs.load(configs.merge(configs.merge(rows.COMMON, here), train), method="lora")))
    exact, fewer = trainers
    size = [estimate.standing(each)["transformer"] for each in (exact, fewer)]
    assert size[1] < 0.7 * size[0]  # its embeddings stay
    for key, each in fewer.named.items():  # the adapter starts the same, in float32
        assert each.dtype == torch.float32
        assert torch.equal(each, exact.named[key])
    assert estimate.of(fewer).unknown == ""
    run = RunFolder.create(fewer.config, tmp_path / "run")
    plain, course = list(exact.steps()), list(fewer.steps(run))
    assert course[0].loss == pytest.approx(plain[0].loss, rel=0.05)
    assert course[0].losses != plain[0].losses
    assert course[0].grad_norm == pytest.approx(plain[0].grad_norm, rel=0.2)
    assert [each.weight for each in models.open_model(str(run.path), device="cpu").adapters] == [1.0]


@pytest.mark.parametrize("name", ["flux2", "sana", "qwen_image", "z_image"])
def test_every_transformer_computes_nearly_the_same(name: str, base: Callable[[str], Path]) -> None:
    exact, fewer = (families.load(str(base(name))) for _ in range(2))
    assert quantization.freeze(fewer.denoiser, "fp8", "cpu") >= 6
    latents = torch.randn(1, exact.latent_channels, *[32 // exact.pixels_per_latent] * 2)
    with torch.no_grad():
        text = exact.encode_text(["a cat"])
        one, other = (each.predict(latents, torch.tensor([500.0]), text) for each in (exact, fewer))
    assert 0 < float((one - other).norm() / one.norm()) < 0.1


@pytest.mark.parametrize("method", ["full", "loha", "dora"])
def test_what_cannot_lie_beside_it_is_refused(method: str, tiny_sd: Path, tiny_data: Path) -> None:
    settings = configs.merge(rows.COMMON, {"base": str(tiny_sd), "data": {"path": str(tiny_data)}})
    settings = configs.merge(settings, {**rows.PRESETS[method], "train": {"base_quantization": "fp8"}})
    with pytest.raises(ConfigError, match="LoRA is trained beside matrices in fewer bits"):
        prepare(configs.load(settings, method=method), encode=False)


def test_a_device_without_the_type_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Any) -> None:
        message = "Trying to convert Float8_e4m3fn to the MPS backend but it does not have support for that dtype."
        raise TypeError(message)

    monkeypatch.setattr(float8, "linear", missing)
    with pytest.raises(ConfigError, match="torch cannot do it on cpu: Trying to convert Float8_e4m3fn"):
        quantization.probe("fp8", "cpu")
