"""The command line as a whole: what it lists, how fast, how it fails, and what it never does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

import brushwork
from brushwork import cli
from brushwork.config import load
from brushwork.errors import Diverged, UserError
from brushwork.runs import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable

COMMANDS = sorted(path.stem.replace("_", "-") for path in Path(cli.__file__).parent.glob("[!_]*"))
BRUSHWORK = (sys.executable, "-m", "brushwork")


def call(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*BRUSHWORK, *arguments], capture_output=True, text=True, check=False, **settings)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Return a function after which the command ``runs list`` raises an error."""

    def let_fail(error: BaseException) -> None:
        def fail() -> None:
            raise error

        command = click.Command("runs", callback=fail)
        monkeypatch.setattr(cli.Commands, "get_command", lambda *_: command)

    return let_fail


class TestHelp:
    def test_every_command_is_listed_with_the_first_line_of_its_docstring(self) -> None:
        text = " ".join(call("--help").stdout.split())
        for name in COMMANDS:
            assert f"{name} {cli._summary(cli._modules()[name])}" in text

    def test_it_takes_less_than_250_ms_and_imports_no_torch(self) -> None:
        code = (
            "import sys; from brushwork.cli import run; run(['--help']); print('torch' in sys.modules, file=sys.stderr)"
        )
        seconds = []  # of CPU time: others that are busy do not count
        for _ in range(3):
            began = os.times()
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            ended = os.times()
            seconds.append(ended.children_user + ended.children_system - began.children_user - began.children_system)
            assert done.stderr.strip() == "False"
        assert min(seconds) < 0.25

    def test_it_imports_no_command(self) -> None:
        code = (
            "import sys; from brushwork.cli import run; run(['--help']);"
            "print([name for name in sys.modules if name.startswith('brushwork.cli.')])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"

    @pytest.mark.parametrize("name", COMMANDS)
    def test_a_command_explains_itself_in_the_list_and_in_its_own_help(self, name: str) -> None:
        command = cli.cli.get_command(click.Context(cli.cli), name)
        assert command is not None
        assert command.help
        assert cli._summary(cli._modules()[name]).endswith(".")

    def test_examples_in_a_help_text_keep_their_lines(self) -> None:
        help_text = CliRunner().invoke(cli.cli, ["train", "--help"]).output
        assert "\n  brushwork train --resume --out runs/" in help_text
        assert "\\b" not in help_text

    @pytest.mark.parametrize("name", COMMANDS)
    def test_every_command_takes_json_and_explains_every_option(self, name: str) -> None:
        command = cli.cli.get_command(click.Context(cli.cli), name)
        assert command is not None
        for each in command.commands.values() if isinstance(command, click.Group) else [command]:
            options = [option for option in each.params if isinstance(option, click.Option)]
            assert "--json" in [text for option in options for text in option.opts]
            assert [option.name for option in options if not option.help] == []

    def test_importing_brushwork_imports_no_torch(self) -> None:
        code = "import sys, brushwork; print(sorted({'torch', 'diffusers', 'pydantic', 'numpy'} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"

    def test_the_version_is_the_packages(self) -> None:
        assert call("--version").stdout == f"brushwork {brushwork.__version__}\n"


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["trian"], "error: There is no command 'trian'. Did you mean train?"),
            (["runs", "lst"], "error: No such command 'lst'. Did you mean 'list'?"),
            (["doctor", "--jsn"], "error: No such option '--jsn'. Did you mean '--json'?"),
            (["runs", "show"], "error: Missing argument 'RUN'."),
            (["runs", "show", "nowhere"], "error: 'nowhere' is not a run folder (no config.yaml in it)."),
        ],
    )
    def test_a_wrong_request_is_one_to_three_lines_and_exit_code_2(
        self, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert cli.run(arguments) == 2
        caught = capsys.readouterr()
        assert caught.err.splitlines()[0] == said
        assert len(caught.err.splitlines()) <= 3
        assert caught.out == ""

    @pytest.mark.parametrize(
        ("error", "code", "said"),
        [
            (UserError("wrong"), 2, "error: wrong\n"),
            (UserError("error: wrong"), 2, "error: wrong\n"),
            (Diverged("step 3"), 1, "error: step 3\n"),
            (
                OSError(errno.ENOSPC, "No space left on device", "run.json"),
                1,
                "error: No space left on device: run.json\n",
            ),
            (KeyboardInterrupt(), 130, "\nerror: interrupted\n"),
        ],
    )
    def test_every_kind_of_failure_has_its_exit_code(
        self, error: BaseException, code: int, said: str, failing: Callable[[BaseException], None],
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        failing(error)
        assert cli.run(["runs"]) == code
        assert capsys.readouterr().err == said

    @pytest.mark.parametrize("bug", [ZeroDivisionError("ours"), OSError(errno.EIO, "ours"), ValueError("ours")])
    def test_a_bug_keeps_its_traceback(self, bug: Exception, failing: Callable[[BaseException], None]) -> None:
        failing(bug)
        with pytest.raises(type(bug), match="ours"):
            cli.run(["runs"])

    def test_a_reader_that_leaves_ends_it_quietly(self) -> None:
        for index in range(3):
            RunFolder.create(load({"data": "photos/"}), f"runs/{index}")
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [*BRUSHWORK, "runs", "list"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (1, "")


class TestExports:
    @pytest.mark.parametrize("name", brushwork.__all__)
    def test_every_exported_name_exists_and_is_listed(self, name: str) -> None:
        assert getattr(brushwork, name) is not None
        assert name in dir(brushwork)

    def test_an_unknown_name_is_an_attribute_error(self) -> None:
        with pytest.raises(AttributeError, match="'trian'"):
            brushwork.trian  # type: ignore[attr-defined]  # noqa: B018

    def test_train_stays_the_function_when_the_module_of_that_name_is_imported(self) -> None:
        code = (
            "import brushwork, brushwork.train; from brushwork.train import steps;"
            "assert brushwork.train.__module__ == 'brushwork.api'"
        )
        subprocess.run([sys.executable, "-c", code], check=True)
