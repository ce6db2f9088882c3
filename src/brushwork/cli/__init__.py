"""The command line: ``brushwork <command>``, one file for each command.

    brushwork --help
    brushwork train recipes/pokemon-lora.yaml --dry-run

A command is a module in this folder (or an entry point in the group ``brushwork.commands``) with a click command named
``command``; the file's name is the command's name (``convert_ckpt.py`` is ``convert-ckpt``), the first line of its
docstring is what ``brushwork --help`` says about it. Modules are imported only when their command is called. A folder
(``data/``) is a command whose subcommands are found in the same way.

Conventions that hold for every command:

- Results go to stdout; progress, notes and errors go to stderr. With ``--json`` stdout holds one JSON document and
  nothing else, so that ``brushwork ... --json | jq`` works.
- Exit codes: 0 done, 1 failed while running (or nobody reads the output), 2 the request was wrong, 130 interrupted.
- A mistake of the user is one to three lines on stderr that begin with ``error:``. A traceback is a bug in brushwork.
"""

from __future__ import annotations

import ast
import errno
import functools
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from brushwork import __version__
from brushwork.errors import BrushworkError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERRUPTED = 130
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
"""What the operating system says when a disk is full or must not be written: no bug, so no traceback."""


class Commands(click.Group):
    """Finds the commands of a package by file name and imports one only when it is called."""

    def __init__(self, *args: Any, package: str = __name__, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.package = package

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Return the names of all commands."""
        return sorted(_modules(self.package))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (click's signature)
        """Import and return one command."""
        module = _modules(self.package).get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that was asked for, or offer the nearest one."""
        name = args[0]
        known = _modules(self.package)
        if name not in known and not name.startswith("-"):
            message = f"There is no command {name!r}.{nearest(name, known)}"
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's signature)
        """List the commands with the first line of each module's docstring, read without importing it."""
        rows = [(name, _summary(module)) for name, module in sorted(_modules(self.package).items())]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@functools.cache
def _modules(package: str = __name__) -> dict[str, str]:
    """Map each command's name to the module that holds it."""
    group = f"brushwork.commands{package.removeprefix(__name__)}"
    found = importlib.metadata.entry_points(group=group)
    folder = Path(__file__).parent.joinpath(*package.removeprefix(__name__).split("."))
    modules = pkgutil.iter_modules([str(folder)])
    own = {info.name.replace("_", "-"): f"{package}.{info.name}" for info in modules}
    return {entry.name: entry.value for entry in found} | own


def _summary(module: str) -> str:
    """Return the first line of a module's docstring."""
    own = Path(__file__).parent.joinpath(*module.removeprefix(f"{__name__}.").split("."))
    if own.parent.is_dir() and (own.is_dir() or own.with_suffix(".py").is_file()):
        path = own / "__init__.py" if own.is_dir() else own.with_suffix(".py")
    else:  # a third party's: finding it imports its package, but not the module
        spec = importlib.util.find_spec(module)
        path = Path(spec.origin) if spec and spec.origin else own
    source = path.read_text("utf-8") if path.is_file() else ""
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, message="brushwork %(version)s")
def cli() -> None:
    """Teach a text-to-image model your style, and know what it learned, what it cost and what it forgot."""


json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document on stdout, for programs."
)
"""The ``--json`` that every command takes; the function gets ``as_json``."""


def print_json(value: object) -> None:
    """Print the one JSON document of ``--json``."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code."""
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        outcome = cli.main(given, prog_name="brushwork", standalone_mode=False, obj=given)
        sys.stdout.flush()
    except BrushworkError as error:
        return _fail(str(error), error.exit_code)
    except click.ClickException as error:
        return _fail(_explain(error), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", INTERRUPTED)
    except OSError as error:
        if error.errno == errno.EPIPE:
            return _stop_writing()
        if error.errno in REFUSED:
            return _fail(f"{error.strerror}: {error.filename or 'the output'}", 1)
        raise
    return outcome if isinstance(outcome, int) else 0


def main() -> NoReturn:
    """Run the command line of this process and leave it."""
    # Torch's threads wait by spinning; with anything else running on the machine that made training of a small model
    # six times as slow here. Read by OpenMP when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # What the libraries say about themselves (a missing torchvision, an optional kernel) is not for our users.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    code = run()
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _stop_writing()
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    from brushwork import processes

    if not processes.rank():  # what goes wrong in another process, or in all, is said by the main one
        click.echo(f"error: {message.removeprefix('error: ')}", err=True)
    return code


def _explain(error: click.ClickException) -> str:
    """Say what click found wrong, and which help to read."""
    context = getattr(error, "ctx", None)
    hint = f"\nTry: {context.command_path} --help" if context else ""
    return error.format_message() + hint


def _stop_writing() -> int:
    """Nobody reads stdout any more (``brushwork ... | head``): end quietly, also when Python flushes at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return 1
