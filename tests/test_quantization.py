"""A frozen base in 8 or 4 bits beside a LoRA: near the exact base, fewer bytes, and an ordinary adapter."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import rows
import tiny_families
import torch

from brushwork import config as configs
from brushwork import families, models, quantization
from brushwork.errors import ConfigError
from brushwork.forecast import estimate, known
from brushwork.runs import RunFolder
from brushwork.train import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from brushwork.config import Config

FLOWS = ("sd3", "flux", "flux2", "sana", "qwen_image", "z_image")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized")
    rows.make_data(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return tiny_families.kept(tmp_path_factory.mktemp("bases"))


def config(base: Path, data: Path, kind: str, method: str = "lora", **changes: Any) -> Config:
    here = {"base": str(base), "data": {"path": str(data / "pictures")}, "method": {"rank": 2}}
    train = {"train": {"base_quantization": kind, "max_train_steps": 2}}
    return configs.load(configs.merge(configs.merge(configs.merge(rows.COMMON, here), train), changes), method=method)


def size(module: Any) -> int:
    return sum(each.numel() * each.element_size() for each in module.parameters())


@pytest.mark.parametrize(("method", "kind"), [("lora", "8bit"), ("lora", "nf4"), ("dora", "nf4")])
def test_training_is_near_that_beside_the_exact_base_and_saves_an_ordinary_adapter(
    method: str, kind: str, base: Callable[[str], Path], data: Path, tmp_path: Path
) -> None:
    exact, fewer = (prepare(config(base("flux"), data, each, method)) for each in ("none", kind))
    assert size(fewer.family.denoiser) < 0.7 * size(exact.family.denoiser)
    assert all(each.dtype == torch.float32 for each in fewer.named.values())
    frozen = {name: each.clone() for name, each in fewer.family.denoiser.named_parameters() if not each.requires_grad}
    one, other = list(exact.steps()), RunFolder.create(fewer.config, tmp_path / "run")
    course = list(fewer.steps(other))
    assert course[0].loss == pytest.approx(one[0].loss, rel=0.05)
    assert course[0].losses != one[0].losses
    after = dict(fewer.family.denoiser.named_parameters())
    assert all(torch.equal(each, after[name]) for name, each in frozen.items())
    assert estimate.of(fewer).unknown.startswith("activations")
    opened = models.open_model(str(other.path), device="cpu")
    assert [each.weight for each in opened.adapters] == [1.0]


@pytest.mark.parametrize(("kind", "near"), [("8bit", 0.05), ("nf4", 0.5)])
@pytest.mark.parametrize("name", FLOWS)
def test_every_transformer_computes_nearly_the_same(
    name: str, kind: Any, near: float, base: Callable[[str], Path]
) -> None:
    exact, fewer = (families.load(str(base(name))) for _ in range(2))
    count = quantization.freeze(fewer.denoiser, kind, "cpu")
    assert count >= 6
    weights = {name: each.clone() for name, each in fewer.denoiser.named_parameters()}
    latents = torch.randn(1, exact.latent_channels, *[32 // exact.pixels_per_latent] * 2)
    with torch.no_grad():
        text = exact.encode_text(["a cat"])
        one, other = (each.predict(latents, torch.tensor([500.0]), text) for each in (exact, fewer))
    assert 0 < float((one - other).norm() / one.norm()) < near
    assert all(torch.equal(each, weights[name]) for name, each in fewer.denoiser.named_parameters())


@pytest.mark.parametrize("kind", ["8bit", "nf4"])
def test_drawing_between_two_steps_leaves_the_layout_alone(kind: Any) -> None:
    """Also at widths that are no multiple of what bitsandbytes packs."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(96, 32), torch.nn.Linear(32, 72)))
    given = torch.randn(3, 96)
    exact = net(given)
    assert quantization.freeze(net, kind, "cpu") == 2
    training = net.train()(given).detach()
    with torch.no_grad():
        drawing = net.eval()(given)
    # Without gradients bitsandbytes' 8 bits are those of the inputs too.
    assert float((drawing - training).norm() / training.norm()) < (0.05 if kind == "8bit" else 1e-6)
    assert torch.equal(net.train()(given), training)
    assert float((exact - training).detach().norm() / exact.detach().norm()) < 0.2


@pytest.mark.parametrize(
    ("method", "kind"), [("full", "nf4"), ("loha", "nf4"), ("dora", "8bit"), ("textual-inversion", "8bit")]
)
def test_what_does_not_lie_beside_frozen_matrices_is_refused(method: str, kind: str, tiny_sd: Path, data: Path) -> None:
    settings = configs.merge(rows.COMMON, {"base": str(tiny_sd), "data": {"path": str(data / "pictures")}})
    settings = configs.merge(settings, {**rows.PRESETS[method], "train": {"base_quantization": kind}})
    with pytest.raises(ConfigError, match="LoRA is trained beside matrices in fewer bits"):
        prepare(configs.load(settings, method=method), encode=False)


def test_a_machine_without_the_kernels_or_the_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> None:
        message = "no kernel image is available\nfor this device"
        raise NotImplementedError(message)

    with monkeypatch.context() as patched:
        patched.setattr(quantization, "_replaced", missing)
        with pytest.raises(ConfigError, match=r"cannot do it on cpu: no kernel image is available\. Leave it out"):
            quantization.probe("nf4", "cpu")
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"pip install 'brushwork\[bnb\]'"):
        quantization.probe("8bit", "cpu")


def test_a_forecast_without_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing can be quantised"):
        known.rehearse("sd1.5", overrides=["train.base_quantization=nf4"])
