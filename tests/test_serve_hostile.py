"""What somebody hostile sends, or leaves lying about: it is refused, and the server says nothing of itself."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pretending import png, pretending

from brushwork.errors import UserError
from brushwork.serve import permitted
from brushwork.serve.catalogue import Catalogue
from brushwork.serve.places import Places
from brushwork.serve.settings import ServeConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pretending import Pretended

MARKUP = "<img src=x onerror=alert(1)>"
HUGE = "9" * 4000
DEEP = "[" * 200_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretended]:
    with pretending(tmp_path_factory.mktemp("hostile")) as running:
        yield running


def bomb(side: int) -> bytes:
    """A PNG of so many pixels a side, all of them black, in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + side // 8) * side), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/jobs", '{"kind": "txt2img", "n": 1000000000000}'),
        ("/api/v1/jobs", '{"kind": "txt2img", "steps": ' + HUGE + "}"),
        ("/api/v1/jobs", '{"kind": "txt2img", "width": ' + HUGE + "}"),
        ("/api/v1/jobs", '{"kind": "txt2img", "guidance_scale": Infinity}'),
        ("/api/v1/jobs", '{"kind": "txt2img", "guidance_scale": NaN}'),
        ("/api/v1/jobs", '{"kind": "txt2img", "adapters": [{"name": "a", "weight": NaN}]}'),
        ("/api/v1/jobs", '{"kind": "compare", "models": ["mini", "mini"], "n": 99999999}'),
        ("/api/v1/jobs", '{"kind": "grid", "axes": [{"name": "steps", "values": [Infinity]}]}'),
        ("/api/v1/jobs", '{"kind": "grid", "axes": [{"name": "seed", "values": [NaN]}]}'),
        ("/api/v1/jobs", '{"kind": "grid", "axes": [{"name": "size", "values": ["' + HUGE + 'x8"]}]}'),
        ("/api/v1/jobs", '{"kind": "grid", "axes": [{"name": "size", "values": ["²x²"]}]}'),
        ("/api/v1/jobs", DEEP),
        ("/api/v1/jobs", '{"kind": "txt2img", "prompt": ' + DEEP + "}"),
        ("/api/v1/jobs", '{"kind": "txt2img", "prompt": "\\ud800"}'),
        ("/api/v1/jobs", '{"kind": "txt2img", "model": "\\ud800"}'),
        ("/api/v1/jobs", '{"kind": "txt2img", "model": "../../etc/passwd"}'),
        ("/api/v1/jobs", '{"kind": "img2img", "init": "../history"}'),
        ("/api/v1/runs", '{"data": "../.."}'),
        ("/api/v1/runs", '{"data": "mascot", "base": "/etc"}'),
        ("/api/v1/runs", '{"data": "mascot", "method": "../../x.yaml"}'),
        ("/api/v1/runs", '{"data": "mascot", "name": "../../x"}'),
        ("/api/v1/runs", '{"data": "mascot", "settings": ' + DEEP + "}"),
        ("/api/v1/runs", '{"data": "mascot", "settings": {"a": ' + '{"a":' * 900 + "1" + "}" * 900 + "}}"),
        ("/api/v1/votes", '{"run": "../.."}'),
        ("/sdapi/v1/txt2img", '{"batch_size": 1000000, "n_iter": 1000000}'),
        ("/sdapi/v1/txt2img", '{"seed": 99999999999999}'),
        ("/sdapi/v1/txt2img", '{"cfg_scale": -1}'),
        ("/sdapi/v1/txt2img", '{"lora": [{}]}'),
        ("/sdapi/v1/txt2img", '{"lora": [{"path": ["x"]}]}'),
        ("/sdapi/v1/txt2img", '{"override_settings": {"CLIP_stop_at_last_layers": "x"}}'),
        ("/sdapi/v1/txt2img", '{"override_settings": {"CLIP_stop_at_last_layers": Infinity}}'),
        ("/sdapi/v1/txt2img", '{"override_settings": {"CLIP_stop_at_last_layers": 99}}'),
        ("/sdapi/v1/txt2img", '{"alwayson_scripts": {"x": ' + DEEP + "}}"),
        ("/sdapi/v1/txt2img", '{"alwayson_scripts": {"controlnet": {"args": [{"model": "a", "weight": NaN}]}}}'),
        ("/sdapi/v1/txt2img", '{"alwayson_scripts": {"controlnet": {"args": "x"}}}'),
        ("/sdapi/v1/txt2img", '{"alwayson_scripts": {"controlnet": ["x"]}}'),
        ("/sdapi/v1/txt2img", '{"alwayson_scripts": {"controlnet": {"args": [{"model": "../../etc"}]}}}'),
        ("/api/v1/jobs", '{"kind": "txt2img", "controlnet": [{"model": "/etc/passwd", "image": "x"}]}'),
        ("/api/v1/jobs", '{"kind": "txt2img", "controlnet": [{"model": "a", "image": "x", "weight": NaN}]}'),
        ("/controlnet/detect", '{"controlnet_input_images": ["http://169.254.169.254/latest"]}'),
        ("/controlnet/detect", '{"controlnet_input_images": ["AAAA"], "controlnet_module": "canny"}'),
        ("/controlnet/detect", '{"controlnet_processor_res": 1000000}'),
        ("/sdapi/v1/txt2img", '{"script_name": "run", "script_args": ["import os"]}'),
        ("/sdapi/v1/img2img", '{"init_images": ["http://169.254.169.254/latest"]}'),
        ("/sdapi/v1/img2img", '{"init_images": ["file:///etc/passwd"]}'),
        ("/sdapi/v1/img2img", '{"init_images": ["AAAA"]}'),
        ("/sdapi/v1/options", '{"CLIP_stop_at_last_layers": []}'),
        ("/sdapi/v1/options", '{"sd_model_checkpoint": "/etc/passwd"}'),
        ("/sdapi/v1/extra-single-image", '{"image": "é"}'),
        ("/sdapi/v1/png-info", '{"image": "AAAA"}'),
        ("/v1/images/generations", '{"prompt": "a", "loras": [{"name": "a", "weight": 1000}]}'),
        ("/v1/images/generations", '{"prompt": "a", "loras": "' + "[" * 90_000 + '"}'),
        ("/v1/images/generations", '{"prompt": "a", "model": "mini+a@nan"}'),
        ("/v1/images/generations", '{"prompt": "a", "model": "mini+a@1@2"}'),
        ("/v1/images/generations", '{"prompt": "a", "size": "' + HUGE + 'x64"}'),
        ("/v1/images/generations", '{"prompt": "a", "stream": true, "n": 4}'),
        ("/v1/images/edits", "not a form"),
    ],
)  # fmt: skip
def test_a_hostile_body_is_refused(server: Pretended, path: str, body: str) -> None:
    headers = {"content-type": "application/json"}
    answer = server.ask("POST", path, content=body.encode(), headers=headers)
    assert 400 <= answer.status_code < 500, answer.text[:300]
    assert answer.json()
    assert len(answer.content) < 5000


@pytest.mark.parametrize("field", ['"s_tmax": NaN', '"x": [Infinity]', '"x": {"y": "\\ud800"}'])
def test_what_json_cannot_hold_is_not_sent_back(server: Pretended, field: str) -> None:
    body = '{"prompt": "a dog", ' + field + "}"
    answer = server.ask("POST", "/sdapi/v1/txt2img", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text[:300]
    assert answer.json()["parameters"]["prompt"] == "a dog"


@pytest.mark.parametrize("field", [{"mask_blur": 10**9}, {"mask_blur": -1}, {"width": 10**6, "height": 10**6}])
def test_no_picture_is_enlarged_or_blurred_beyond_the_limits(server: Pretended, field: dict[str, int]) -> None:
    import base64

    picture = base64.b64encode(png()).decode()
    body = {"init_images": [picture], "mask": picture, "prompt": "a", **field}
    assert server.ask("POST", "/sdapi/v1/img2img", json=body).status_code == 422


def test_a_bomb_is_refused_before_it_is_unpacked(server: Pretended) -> None:
    data = bomb(20_000)
    assert len(data) < 100_000
    for path in ("/api/v1/images", "/api/v1/datasets/bombs"):
        answer = server.ask("POST", path, files={"file": ("x.png", data)})
        assert answer.status_code == 422, answer.text
    assert server.ask("POST", "/v1/images/edits", data={"prompt": "a"}, files={"image": data}).status_code == 400


def test_text_where_a_file_belongs_is_refused(server: Pretended) -> None:
    answer = server.ask("POST", "/v1/images/edits", files={"image": (None, "x"), "prompt": (None, "a")})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_body_without_end_is_cut_off(tmp_path: Path) -> None:
    from brushwork.serve.settings import Limits

    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield b"x" * 10_000

    with pretending(tmp_path, limits=Limits(body=100_000)) as small:
        for path in ("/api/v1/jobs", "/v1/images/edits", "/api/v1/images"):
            kind = {"content-type": "application/json" if "jobs" in path else "multipart/form-data; boundary=x"}
            try:
                answer = small.ask("POST", path, content=endless(), headers=kind)
            except OSError:  # the connection was closed; that is an answer too
                continue
            assert 400 <= answer.status_code < 500


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Basic \xe9\xe9"},
        {"authorization": "Bearer \xe9"},
        {"origin": "http://["},
        {"origin": "javascript:alert(1)"},
        {"host": "127.0.0.1@evil.example"},
        {"host": "127.0.0.1:80:80"},
        {"content-length": "9" * 30},
        {"last-event-id": HUGE},
        {"cookie": "brushwork=" + "x" * 4000},
    ],
)
def test_a_hostile_header_ends_in_no_fault(tmp_path: Path, headers: dict[str, str]) -> None:
    import asyncio

    import httpx

    from brushwork.serve.app import make_app

    config = ServeConfig(token="a-token-that-nobody-guesses", data=tmp_path, runs=tmp_path / "runs")  # noqa: S106

    async def go() -> int:
        transport = httpx.ASGITransport(make_app(config))
        raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return (await client.post("/api/v1/catalogue/refresh", headers=raw)).status_code

    assert asyncio.run(go()) in (401, 403, 413, 421)


@pytest.mark.parametrize(
    "settings",
    [
        {"data.path": "/etc"},
        {"data": {"path": "/etc"}},
        {"data": {"class_path": "etc"}},
        {"data.parts": [{"data": {"path": "x"}, "weight": 1}]},
        {"base": "x"},
        {"base_config": "x"},
        {"preserve": {"prompts": "secrets"}},
        {"validation.prompts": "secrets"},
        {"validation": {"control_prompts": "/etc/passwd"}},
        {"validation.judge": "/etc"},
        {"validation.judge": "someone/model"},
        {"validation.captioner": "~/model"},
        {"validation.extractors": ["external:rm -rf ."]},
        {"validation": {"extractors": ["clip:../x"]}},
        {"objective": {"type": "clip", "clip": "x"}},
        {"name": "../x"},
        {"a.b.c.d.e.f.g.h.i.j": 1},
    ],
)
def test_no_setting_of_a_training_run_opens_anything(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"settings: .*(which a client cannot name|too deep)"):
        permitted.tree(settings)


def test_other_settings_pass_as_they_are() -> None:
    settings = {"method.rank": 8, "train": {"lr": 1}, "validation.prompts": ["a/b", "~c"], "seed": None}
    tree = permitted.tree(settings)
    assert tree == {
        "method": {"rank": 8}, "train": {"lr": 1}, "validation": {"prompts": ["a/b", "~c"]}, "seed": None,
    }  # fmt: skip
    assert permitted.tree({"validation.prompts": "target"}) == {"validation": {"prompts": "target"}}


HEADERS: dict[str, Any] = {
    "list": [],
    "text": {"__metadata__": "x", "a.lora_up.weight": {"shape": [1, 1]}},
    "markup": {"__metadata__": {"ss_output_name": MARKUP}, "a.lora_up.weight": {"shape": [1, 1]}},
    "long": {"__metadata__": {"x": "y" * 300_000}, "a.lora_up.weight": {"shape": [1, 1]}},
    "shape": {"a": {"shape": 5}},
    "none": {"a": None},
}


def test_hostile_files_and_run_folders_are_listed_or_left_out_and_break_nothing(tmp_path: Path) -> None:
    models, runs = tmp_path / "models", tmp_path / "runs"
    for folder in (models, runs / MARKUP.replace("/", ""), runs / "json", runs / "deep", runs / 'q"uo\nte é'):
        folder.mkdir(parents=True)
    for name, header in HEADERS.items():
        text = json.dumps(header).encode()
        (models / f"{name}.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    (models / f"{MARKUP}.safetensors").write_bytes((models / "markup.safetensors").read_bytes())
    nested = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    (models / "nested.safetensors").write_bytes(len(nested).to_bytes(8, "little") + nested)
    (models / "claims.safetensors").write_bytes((1 << 62).to_bytes(8, "little"))
    for folder in runs.iterdir():
        (folder / "config.yaml").write_text("base: mini\ndata: {path: mascot}\n")
        (folder / "run.json").write_text('{"status": "done"}')
        (folder / "weights").mkdir()
        (folder / "steps.jsonl").write_text('[1]\n{"index": "x"}\n{"loss": 1}\n')
    (runs / "json" / "run.json").write_text("[")
    (runs / "deep" / "run.json").write_text(DEEP)
    (runs / "deep" / "config.yaml").write_text("!!python/object/apply:os.system [touch hacked]")
    with pretending(tmp_path, models=(models,)) as server:
        listed = {each["name"]: each["status"] for each in server.ask("GET", "/api/v1/runs").json()}
        assert listed == {
            "json": "broken", "deep": "broken", MARKUP: "done", 'q"uo\nte é': "done",
        }  # fmt: skip
        adapters = server.ask("GET", "/sdapi/v1/loras").json()
        assert {"markup", "long", MARKUP} <= {each["name"] for each in adapters}
        assert max(len(str(each["metadata"])) for each in adapters) < 200_000
        for path in ("", "/steps", "/events", "/report", "/weights", "/samples/1", "/samples/" + "9" * 300):
            for name in ("json", "deep", "q%22uo%0Ate%20%C3%A9"):
                answer = server.ask("GET", f"/api/v1/runs/{name}{path}")
                assert answer.status_code < 500, (name, path)
    assert not (Path.cwd() / "hacked").exists()


def test_folders_of_this_machine_are_taken_out_of_messages(tmp_path: Path) -> None:
    places = Places(ServeConfig(models=(tmp_path / "my models",), runs=tmp_path / "runs", data=tmp_path))
    told = {
        f"model: {tmp_path}/my models/ink.safetensors is broken": "model: ink.safetensors is broken",
        "/etc/brushwork/x.yaml: no such key": "x.yaml: no such key",
        f"'{Path.home()}/a b/c': no": "'a b/c': no",
        "send it with POST /api/v1/images": "send it with POST /api/v1/images",
        "a dog/cat and 1/2 of it, http://etc/usr/x": "a dog/cat and 1/2 of it, http://etc/usr/x",
    }
    assert {text: places.hide(text) for text in told} == told


def test_the_catalogue_reads_no_header_longer_than_its_file(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes((50 << 20).to_bytes(8, "little") + b"{}")
    catalogue = Catalogue(ServeConfig(models=(tmp_path,), runs=tmp_path / "runs", data=tmp_path / "served"))
    assert [each.name for each in catalogue.all("model")] == ["mini"]
