"""A1111's script "X/Y/Z plot", asked by the unmodified ``webuiapi`` as its README asks, and by newer clients."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING, Any

import pytest
import webuiapi
from PIL import Image
from pretending import pretending

from brushwork import infotext
from brushwork.errors import ConfigError
from brushwork.serve.a1111 import ranges, xyz

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pretending import Pretended

# As in the client's README, whose lists are those of its time.
TXT2IMG = [
    "Nothing", "Seed", "Var. seed", "Var. strength", "Steps", "Hires steps", "CFG Scale", "Prompt S/R", "Prompt order",
    "Sampler", "Checkpoint name", "Sigma Churn", "Sigma min", "Sigma max", "Sigma noise", "Eta", "Clip skip",
    "Denoising", "Hires upscaler", "VAE", "Styles",
]  # fmt: skip
IMG2IMG = [
    "Nothing", "Seed", "Var. seed", "Var. strength", "Steps", "CFG Scale", "Image CFG Scale", "Prompt S/R",
    "Prompt order", "Sampler", "Checkpoint name", "Sigma Churn", "Sigma min", "Sigma max", "Sigma noise", "Eta",
    "Clip skip", "Denoising", "Cond. Image Mask Weight", "VAE", "Styles",
]  # fmt: skip
OFF = [0, "", []]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pretended]:
    with pretending(tmp_path_factory.mktemp("xyz")) as running:
        yield running


@pytest.fixture
def web(server: Pretended) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(baseurl=f"{server.url}/sdapi/v1", steps=3, sampler="DDIM")


def newest(server: Pretended) -> dict[str, Any]:
    return dict(server.ask("GET", "/api/v1/jobs?limit=1").json()[0])


def axes(server: Pretended) -> list[tuple[str, list[Any]]]:
    return [(each["name"], each["values"]) for each in newest(server)["asked"]["axes"]]


def plot(*axes: list[Any], rest: tuple[Any, ...] = (True, False, False, False, False, False, False, 0, False)) -> Any:
    """Return the arguments of 1.8 and later."""
    return [argument for axis in (*axes, *[OFF] * (3 - len(axes))) for argument in axis] + list(rest)


def test_the_call_of_the_clients_readme(server: Pretended, web: webuiapi.WebUIApi) -> None:
    args = [
        TXT2IMG.index("Steps"), "20,30", "", TXT2IMG.index("Sampler"), "Euler a, LMS", "", TXT2IMG.index("Nothing"),
        "", "", "True", "False", "False", "False", 0,
    ]  # fmt: skip
    assert "x/y/z plot" in web.get_scripts()["txt2img"]
    drawn = web.txt2img(prompt="cute girl", seed=1003, script_name="X/Y/Z Plot", script_args=args)
    assert axes(server) == [("steps", [20, 30]), ("sampler", ["Euler a", "LMS"])]
    assert len(drawn.images) == 1, "the grid alone"
    assert drawn.info["index_of_first_image"] == 1
    assert len(drawn.info["infotexts"]) == 5
    assert drawn.info["all_seeds"] == [1003] * 4
    fields = infotext.parse(drawn.info["infotexts"][0]).fields
    assert {name: fields[name] for name in ("Script", "X Type", "X Values", "Y Type", "Y Values")} == {
        "Script": "X/Y/Z plot", "X Type": "Steps", "X Values": "20, 30", "Y Type": "Sampler",
        "Y Values": "Euler a, LMS",
    }  # fmt: skip
    old = [*args[:2], *args[3:5], *args[6:8], *args[9:]]
    web.txt2img(prompt="cute girl", seed=1003, script_name="X/Y/Z Plot", script_args=old)
    assert axes(server) == [("steps", [20, 30]), ("sampler", ["Euler a", "LMS"])]
    places = [IMG2IMG.index(each) for each in ("Denoising", "Checkpoint name")]
    args = [places[0], "0.3-0.9 [3]", "", places[1], "mini", "", 0, "", "", *args[9:]]
    web.img2img(images=[Image.new("RGB", (64, 64))], prompt="a", script_name="x/y/z plot", script_args=args)
    assert axes(server) == [("strength", [0.3, 0.6, 0.9]), ("model", ["mini"])]
    assert newest(server)["asked"]["init"]


def test_newer_clients_choose_from_lists_and_get_what_they_ask_for(server: Pretended, web: webuiapi.WebUIApi) -> None:
    rest = (True, True, True, False, True, True, False, 10, False)
    asked = plot([11, "", ["mini"]], [4, "1-5 (+2)", []], [7, "cat, dog", []], rest=rest)
    drawn = web.txt2img(prompt="a cat", seed=50, script_name="x/y/z plot", script_args=asked)
    assert axes(server) == [("model", ["mini"]), ("steps", [1, 3, 5]), ("prompt", ["cat", "dog"])]
    assert drawn.info["all_seeds"] == [50, 51, 52] * 2, "varied along y"
    assert [each.size for each in drawn.images[3:]] == [(8, 8)] * 6, "and the single pictures"
    whole, first, second = (each.size for each in drawn.images[:3])
    assert first == second
    assert whole == (first[0], first[1] * 2), "all values of z; one grid for each"
    assert len(drawn.info["infotexts"]) == 3 + 6
    plain = plot([1, "-1,-1,7", []], rest=(False, False, False, False, False, False, False, 4, True))
    bare = web.txt2img(prompt="a cat", script_name="x/y/z plot", script_args=plain)
    ((name, seeds),) = axes(server)
    assert (name, len(set(seeds)), seeds[2]) == ("seed", 3, 7)
    assert min(seeds) >= 0
    wide, high = bare.images[0].size
    assert wide == 3 * high - 2 * 4, "squares, four pixels between and around, and no legend"


def test_a_direction_that_is_nothing_stays_free(server: Pretended, web: webuiapi.WebUIApi) -> None:
    rest = (False, False, False, False, True, True, False, 0, False)
    asked = plot(OFF, [4, "1,2,3", []], rest=rest)
    drawn = web.txt2img(prompt="a cat", seed=9, script_name="x/y/z plot", script_args=asked)
    wide, high = drawn.images[0].size
    assert high == 3 * wide, "one below another"
    assert drawn.info["all_seeds"] == [9, 10, 11]
    assert [each["label"] for each in newest(server)["pictures"]] == ["steps 1", "steps 2", "steps 3"]
    fields = infotext.parse(drawn.info["infotexts"][0]).fields
    assert ("X Type" in fields, fields["Y Values"]) == (False, "1, 2, 3")
    job = {"kind": "grid", "prompt": "a", "axes": [{"name": "nothing", "values": ["a"]}]}
    assert "keeps a direction free" in server.ask("POST", "/api/v1/jobs", json=job).text


def test_places_are_those_of_1_10_1_and_what_is_published_has_them(server: Pretended) -> None:
    found = server.ask("GET", "/sdapi/v1/script-info").json()
    assert [(each["name"], each["is_img2img"]) for each in found] == [("x/y/z plot", False), ("x/y/z plot", True)]
    text, image = (each["args"][0]["choices"] for each in found)
    names = ("Seed", "Steps", "CFG Scale", "Prompt S/R", "Sampler", "Checkpoint name", "Schedule type", "Denoising")
    assert [text.index(each) for each in names] == [1, 4, 6, 7, 9, 11, 17, 26]
    assert [image.index(each) for each in ("CFG Scale", "Prompt S/R", "Sampler", "Checkpoint name")] == [5, 7, 9, 10]
    assert "Sigma Churn (not here)" in text
    assert text[-2:] == ["Adapter", "Adapter weight"]
    assert len(found[0]["args"]) == 18


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"script_name": "prompt matrix"}, "this server has no 'prompt matrix'; it has x/y/z plot"),
        ({"script_args": [1, "2"]}, "script_args: 2 arguments; the X/Y/Z plot has 11, 14, 15 or 18"),
        ({"script_args": plot([13, "1", []])}, "x: this server has no axis 'Sigma Churn'. It has: Seed, Var. seed"),
        ({"script_args": plot([99, "1", []])}, "there is no axis 99; they are 0 (Nothing) to"),
        ({"script_args": plot(["Step", "1", []])}, "there is no axis 'Step'. Did you mean Steps?"),
        ({"script_args": plot([4, "", []])}, "x: Steps: it has no values"),
        ({"script_args": plot([4, "many", []])}, "x: Steps: 'many' is no whole number"),
        ({"script_args": plot([11, "mni", []])}, "Did you mean mini?"),
        ({"script_args": plot([7, "horse, cow", []])}, "the prompt has no 'horse' in it"),
        ({"script_args": plot([9, "Euler b", []])}, "Euler b"),
        ({"script_args": plot()}, "all three axes are Nothing"),
        ({"script_args": plot([4, "2,3", []]), "batch_size": 2}, "one picture in each cell, not 2"),
        ({"script_args": plot([4, "2,3", []], [4, "5", []])}, "axes: each once"),
        ({"script_args": plot([1, "1-60", []])}, "more than 50 values"),
        ({"script_args": plot([4, "1-12", []], [6, "1-12", []])}, "pictures: 144 is more than the limit"),
        ({"script_args": plot([1, "3,-1", []], rest=(1, 0, 0, True, 0, 0, 0, 0, 0)), "seed": 4}, "no_fixed_seeds"),
        ({"script_args": plot([4, "2", []], rest=(1, 0, 0, True, 0, 0, 0, 0, 0))}, "no_fixed_seeds"),
        ({"script_args": plot([4, "2", []], rest=(1, 0, 0, 0, 0, 0, 0, 900, 0))}, "margin_size: 900 is not"),
        ({"script_args": plot([26, "0.5", []])}, "have no second pass"),
        ({"script_args": [{}, [], 3, None, {"a": 1}, -1, *[1e300] * 9, [], {}, None]}, "script_args"),
    ],
)  # fmt: skip
def test_what_the_plot_cannot_do_is_refused(web: webuiapi.WebUIApi, given: dict[str, Any], said: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        web.txt2img(prompt="a cat", **{"script_name": "X/Y/Z plot", **given})
    assert (caught.value.args[0], said in caught.value.args[1]) == (422, True), caught.value.args[1]


@pytest.mark.parametrize(
    ("typed", "kind", "found"),
    [
        ("1-5", int, [1, 2, 3, 4, 5]), ("1-5 (+2)", int, [1, 3, 5]), ("10-1 (-3)", int, [10, 7, 4]),
        ("1-10 [5]", int, [1, 3, 5, 7, 10]), ("-1,-1, 7", int, [-1, -1, 7]), ("10 - 20 (+5)", int, [10, 15, 20]),
        ("1-6 (+2)", float, [1, 3, 5, 7]), ("0-1 [3]", float, [0, 0.5, 1]),
        ("1-2 (+0.5), 7.5", float, [1, 1.5, 2, 7.5]),
        ('dog, "a, b" ', str, ["dog", '"a', 'b"']), ('dog,"a, b"', str, ["dog", "a, b"]), ("5-1", int, []),
    ],
)  # fmt: skip
def test_values_are_read_as_a1111_reads_them(typed: str, kind: type, found: list[Any]) -> None:
    assert ranges.values(typed, kind) == found


@pytest.mark.parametrize("typed", ["1-5 (+0)", "1-1e9", "1--", "9" * 5000, "0-999999999", "1-9 [999999999]"])
def test_ranges_that_lead_nowhere_are_refused(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"no whole number|limit of this server|lead nowhere"):
        ranges.values(typed, int)


def test_every_axis_of_ours_is_in_the_lists() -> None:
    assert set(xyz.OURS) <= set(xyz.EVERY)
    assert set(TXT2IMG) == set(xyz.labels(image=False, old=True))
    assert xyz.labels(image=False, old=True) == TXT2IMG
    assert xyz.labels(image=True, old=True) == IMG2IMG
    assert not re.search("Refiner", " ".join(xyz.OURS))


def test_the_grid_says_how_it_was_made(web: webuiapi.WebUIApi) -> None:
    drawn = web.txt2img(prompt="a cat", seed=1, script_name="x/y/z plot", script_args=plot([7, 'cat,"a, b"', []]))
    buffer = io.BytesIO(base64.b64decode(drawn.json["images"][0]))
    found = infotext.read_bytes(buffer.getvalue())
    assert found.fields["X Values"] == 'cat,"a, b"'
    assert ranges.values(found.fields["X Values"], str) == ["cat", "a, b"]
