"""Two processes train as one does: the same losses and weights, disjoint shares, one writer, one end."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load

from brushwork import api, checkpoints, cli, launch, processes
from brushwork import config as configs
from brushwork.errors import ConfigError, DataError, UserError
from brushwork.runs import RunFolder
from brushwork.train import Trainer, prepare

if TYPE_CHECKING:
    from collections.abc import Callable

    from warm import Process, Server

PATIENCE = 300.0
STEPS = 30


def make_tree(base: Path, data: Path, **changes: Any) -> dict[str, Any]:
    tree = {
        "base": str(base),
        "method": {"type": "full"},
        "data": {"type": "captioned", "path": str(data), "resolution": 32, "validation_split": 0.3},
        "optimizer": {"learning_rate": 1e-3, "lr_scheduler": "cosine"},
        "train": {"max_train_steps": 4, "train_batch_size": 2, "checkpointing_steps": 2, "device": "cpu"},
        "validation": {"prompts": ["a cat"], "samples_during_training": 0, "num_inference_steps": 2},
    }
    return configs.merge(tree, changes)


def start(warm: Server, folder: Path, work: Callable[..., int | None], *args: Any) -> list[Process]:
    """Let two processes do the same work, as a launcher would; ``work`` is called by its name, with its arguments."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    module = work.__module__.rpartition(".")[2]
    code = f"import sys, {module}; from pathlib import *; sys.exit({module}.{work.__name__}(*{args!r}))"
    world = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    ranks = []
    for rank in range(2):
        names = {name: str(value) for name, value in {**world, "RANK": rank, "LOCAL_RANK": rank}.items()}
        with Path(os.devnull).open("wb") as stdout, (folder / f"stderr-{rank}").open("ab") as stderr:
            files = {"stdout": stdout.fileno(), "stderr": stderr.fileno()}
            ranks.append(warm.start(code, cwd=Path.cwd(), env=os.environ | names, **files))
    return ranks


def finish(ranks: list[Process]) -> list[int]:
    return [each.wait(PATIENCE) for each in ranks]


def messages(folder: Path) -> list[list[str]]:
    """Return the error messages of each process."""
    return [
        [line for line in (folder / f"stderr-{rank}").read_text().splitlines() if line.startswith("error: ")]
        for rank in range(2)
    ]


def train(tree: dict[str, Any], run: RunFolder | None = None) -> dict[str, Any]:
    sums: list[int] = []
    trainer = prepare(configs.load(tree))
    with pytest.MonkeyPatch.context() as patch:
        add_up = torch.distributed.all_reduce
        patch.setattr(torch.distributed, "all_reduce", lambda each, **group: (sums.append(1), add_up(each, **group)))
        steps = list(trainer.steps(run))
    return {
        "sums": len(sums),
        "losses": [step.losses for step in steps],
        "norms": [step.grad_norm for step in steps],
        "validation": [step.validation_loss for step in steps],
        "weights": {name: parameter.detach().clone() for name, parameter in trainer.named.items()},
        "average": [each.clone() for each in trainer.average.average] if trainer.average else [],
        "encoded": trainer.encoded,
    }


def train_and_keep(trees: dict[str, dict[str, Any]], folder: Path) -> None:
    for name, tree in trees.items():
        rank = os.environ["RANK"]
        run = RunFolder.create(configs.load(tree), folder / f"run-{name}-{rank}")  # of its own, to see who writes
        torch.save(train(tree, run), folder / f"{name}-{rank}.pt")


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two runs are the same to the last bit."""
    numbers = all(one[key] == other[key] for key in ("losses", "norms", "validation", "encoded"))
    weights = all(torch.equal(one["weights"][name], other["weights"][name]) for name in one["weights"])
    return numbers and weights and all(map(torch.equal, one["average"], other["average"]))


@pytest.mark.slow
def test_two_processes_train_as_one_does(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm: Server
) -> None:
    """To the last bit if one process does the same micro-batches; within float32's rounding as one larger batch."""
    trees = {
        "lora": make_tree(
            tiny_sd,
            tiny_data,
            method={"type": "lora", "rank": 2, "dropout": 0.2},
            preserve={"prompts": ["a dog", "a cat"], "num_images": 3},
        ),
        "full": make_tree(tiny_sd, tiny_data, train={"use_ema": True, "gradient_accumulation_steps": 2}),
    }
    assert finish(start(warm, tmp_path, train_and_keep, trees, tmp_path)) == [0, 0]
    for name in trees:
        assert torch.load(tmp_path / f"{name}-1.pt")["sums"] == 4  # one for each optimizer step, accumulated or not
        written = [{each.name for each in (tmp_path / f"run-{name}-{rank}").iterdir()} for rank in range(2)]
        assert written == [{"config.yaml", "checkpoints", "steps.jsonl", "weights"}, {"config.yaml"}]
        assert same(*(torch.load(tmp_path / f"{name}-{rank}.pt") for rank in range(2)))

    # Alone, with a cache of its own, so that it draws and encodes for itself what the two did by halves.
    monkeypatch.setenv("BRUSHWORK_CACHE", str(tmp_path / "cache"))
    halves = torch.load(tmp_path / "lora-0.pt")
    alone = train(configs.merge(trees["lora"], {"train": {"gradient_accumulation_steps": 2}}))
    assert same(alone, halves)

    halves = torch.load(tmp_path / "full-0.pt")
    alone = train(configs.merge(trees["full"], {"train": {"train_batch_size": 4}}))
    for each, other in zip(alone["losses"], halves["losses"], strict=True):
        assert each == pytest.approx(other, rel=1e-5)
    assert alone["norms"] == pytest.approx(halves["norms"], rel=1e-5)
    torch.testing.assert_close(alone["weights"], halves["weights"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(alone["average"], halves["average"], rtol=1e-4, atol=1e-4)


def carry_on(path: str) -> int:
    arguments = ["train", "--resume", "--out", path]
    return cli.run(arguments)


def stop_soon(warm: Server, run: RunFolder, log: Path, rank: int, number: int) -> list[int | None]:
    """Go on with a run by two processes and send one of them a signal when a step is done."""
    done, began = len(run.steps()), time.monotonic()
    ranks = start(warm, log, carry_on, str(run.path))
    while len(run.steps()) <= done:
        assert time.monotonic() - began < PATIENCE
        time.sleep(0.005)
    ranks[rank].send_signal(number)
    return finish(ranks)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_killed_process_ends_the_other_and_the_run_goes_on(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path, warm: Server
) -> None:
    """Ctrl-C, then kill -9 of either; resumed by two and then by one: the weights of a run that was never stopped."""
    changes: dict[str, Any] = {"train": {"max_train_steps": STEPS, "use_ema": True, "checkpointing_steps": 1}}
    tree = make_tree(tiny_sd, tiny_data, **changes)
    run = RunFolder.create(configs.load(tree), tmp_path / "run")
    run.update(effective_batch=4)  # begun by two processes

    assert stop_soon(warm, run, tmp_path, 1, signal.SIGINT) == [130, 130]
    assert run.record["status"] == "stopped"
    assert checkpoints.latest(run.path / "checkpoints") == run.path / "checkpoints" / str(len(run.steps()))

    assert stop_soon(warm, run, tmp_path, 1, signal.SIGKILL) == [1, -signal.SIGKILL]
    assert "One of the 2 processes of this run is gone" in run.record["failure"]
    assert run.record["processes"] == 2

    assert stop_soon(warm, run, tmp_path, 0, signal.SIGKILL) == [-signal.SIGKILL, 1]
    assert messages(tmp_path)[1] == []
    assert len(run.steps()) < STEPS

    api.resume(run.path, evaluate=False)
    assert [step["index"] for step in run.steps()] == list(range(1, STEPS + 1))

    alone = configs.load(configs.merge(tree, {"train": {"gradient_accumulation_steps": 2}}))
    whole = api.train(alone, out=tmp_path / "whole", evaluate=False)
    for key in ("loss", "grad_norm", "lr"):
        assert [step[key] for step in run.steps()] == [step[key] for step in whole.steps()]
    weights = {path.relative_to(whole.weights): path.read_bytes() for path in whole.weights.rglob("*.safetensors")}
    assert weights
    assert all((run.weights / path).read_bytes() == written for path, written in weights.items())


def break_in_the_other(tree: dict[str, Any], how: str) -> int:
    """Train, with something wrong in process 1 only."""
    if os.environ["RANK"] == "1":
        tree = tree | {"seed": 1} if how == "seed" else tree
        do_step = Trainer.losses

        def losses(self: Trainer, batch: Any, *tally: Any) -> Any:
            if how == "picture":
                message = "a.png is no picture any more"
                raise DataError(message)
            return do_step(self, batch, *tally)

        Trainer.losses = losses  # type: ignore[method-assign]
    try:
        api.train(tree, out="broken", evaluate=False)
    except UserError as error:
        return cli._fail(str(error), error.exit_code)
    except processes.PeerFailed as error:
        return cli._fail(str(error), error.exit_code)
    return 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("picture", "error: process 1: a.png is no picture any more"),
        ("seed", "error: process 1 has another configuration than the main process."),
    ],
)
def test_what_goes_wrong_in_one_process_is_said_once(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path, how: str, told: str, warm: Server
) -> None:
    tree = make_tree(tiny_sd, tiny_data, train={"max_train_steps": 2})
    assert finish(start(warm, tmp_path, break_in_the_other, tree, how)) == [2, 2]
    (message,), others = messages(tmp_path)
    assert message.startswith(told)
    assert others == []


def run_python(*arguments: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(processes.__file__).parents[1])}
    ended = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_a_command_starts_its_own_processes(tiny_sd: Path, tiny_data: Path) -> None:
    """The plan counts both, and stdout holds one document."""
    plan = run_python(
        *("-m", "brushwork", "train", "--processes", "2", "--base", str(tiny_sd), "--data", str(tiny_data)),
        *("--method", "lora", "--dry-run", "--json", "data.resolution=32", "train.device=cpu"),
    )
    assert json.loads(plan)["plan"]["effective_batch"] == 16  # by rule 8 each


@pytest.mark.slow
@pytest.mark.usefixtures("warm_python")
def test_accelerate_starts_processes_that_find_one_another(tmp_path: Path) -> None:
    script = tmp_path / "meet.py"
    script.write_text("from brushwork import processes\nworld = processes.join()\nprint(world.exchange(world.rank))\n")
    met = run_python("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", str(script))
    assert met.replace("\n", "") == "[0, 1]" * 2  # two processes print at once, so a line may not end where it should


@pytest.mark.thorough
@pytest.mark.slow
def test_a_run_under_accelerate_is_the_run_of_one_process(tiny_sd: Path, tiny_data: Path, tmp_path: Path) -> None:
    """From the command to the weights, with accumulation, a moving average and loader workers; then resumed."""
    train = {"gradient_accumulation_steps": 2, "use_ema": True, "dataloader_num_workers": 1}
    tree = make_tree(tiny_sd, tiny_data, method={"type": "lora", "rank": 2}, train=train)
    tree["validation"] |= {"images_per_prompt": 1, "judge": "mini-clip", "captioner": "none"}
    whole, resumed = tmp_path / "whole", RunFolder.create(configs.load(tree), tmp_path / "resumed")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(configs.to_yaml(configs.load(tree)), "utf-8")
    launcher = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "-m", "brushwork", "train")
    run_python(*launcher, str(recipe), "--out", str(whole))
    shutil.copytree(whole / "checkpoints" / "2", resumed.path / "checkpoints" / "2")
    resumed.update(effective_batch=8)  # as two processes began it
    run_python(*launcher, "--resume", "--out", str(resumed.path))

    alone = api.train(configs.merge(tree, {"train": {"gradient_accumulation_steps": 4}}), out=tmp_path / "alone")
    name = "pytorch_lora_weights.safetensors"
    weights = (whole / "weights" / name).read_bytes()
    assert (resumed.weights / name).read_bytes() == weights
    # Four accumulated micro-batches are added up in another order than twice two: the same to float32's rounding.
    torch.testing.assert_close(load(weights), load((alone.weights / name).read_bytes()), rtol=1e-4, atol=1e-4)
    for path, first in ((whole, 0), (resumed.path, 2)):
        for step, other in zip(RunFolder(path).steps(), alone.steps()[first:], strict=True):
            for key in ("index", "loss", "grad_norm", "lr"):
                assert step[key] == pytest.approx(other[key], rel=1e-5)
        assert (path / "report.html").is_file()


@pytest.mark.parametrize(("size", "count", "parts"), [(1, 3, 2), (2, 2, 1), (2, 3, 2), (3, 1, 4), (4, 2, 3)])
def test_shares_are_disjoint_and_cover_every_step(size: int, count: int, parts: int) -> None:
    worlds = [processes.World(rank, size, rank, size) for rank in range(size)]
    step = size * count * parts
    shares = [list(world.micro_batches(2 * step, 5 * step, count)) for world in worlds]
    assert sorted(itertools.chain(*itertools.chain(*shares))) == list(range(2 * step, 5 * step))
    for first in range(3):  # the share of a step lies in that step
        for share in shares:
            own = list(itertools.chain(*share[first * parts : (first + 1) * parts]))
            assert len(own) == count * parts
            assert {number // step for number in own} == {2 + first}
    in_turn = list(itertools.chain(*zip(*shares, strict=True)))
    assert in_turn == [range(first, first + count) for first in range(2 * step, 5 * step, count)]


def test_work_is_shared_without_overlap() -> None:
    # Two machines with two processes each: results on disk are shared in a machine, exchanged ones by all.
    worlds = [processes.World(rank, 4, rank % 2, 2) for rank in range(4)]
    assert [world.local_share("abcde") for world in worlds] == [list("ace"), list("bd")] * 2
    assert [list(world.share(iter("abcde"))) for world in worlds] == [["a", "e"], ["b"], ["c"], ["d"]]


def test_a_device_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.World(1, 2).device("cpu") == "cpu"
    monkeypatch.setattr(processes, "resolve_device", lambda asked: asked)
    with pytest.raises(
        ConfigError, match=r"train\.device=cuda:0: 2 processes cannot share it\. Leave train\.device out"
    ):
        processes.World(1, 2).device("cuda:0")
    with pytest.raises(UserError, match=r"2 processes were started on a machine with 0 GPU\(s\)\. Start as many"):
        processes.World(1, 2, 1, 2).device("cuda")


def test_other_processes_take_over_equal_shares_only(
    tiny_sd: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tiny_sd, tiny_data, train={"gradient_accumulation_steps": 2})
    run = api.Run(RunFolder.create(configs.load(tree), tmp_path / "run").path)
    run.update(effective_batch=8)  # 2 x 2 x 2 processes
    for count, parts in ((1, 4), (2, 2), (4, 1)):
        monkeypatch.setattr(processes, "size", lambda count=count: count)
        assert api._same_batch(run).train.gradient_accumulation_steps == parts
    monkeypatch.setattr(processes, "size", lambda: 3)
    message = "each step of this run is 4 batches of 2, which 3 processes cannot share equally. Go on with 1, 2, 4"
    with pytest.raises(ConfigError, match=message):
        api._same_batch(run)


def test_a_launcher_inside_a_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--processes 3: 2 were started already"), launch.launched(3, []):
        pass
    with launch.launched(2, []):
        assert processes.size() == 2
