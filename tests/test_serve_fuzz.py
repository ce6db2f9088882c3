"""Whatever a client sends, the server answers, and never with 500: requests made up from our own OpenAPI."""

from __future__ import annotations

import contextlib
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from pretending import pretending
from schemathesis import GenerationMode

from brushwork.serve import training

if TYPE_CHECKING:
    from pathlib import Path

    from pretending import Pretended

EXAMPLES = [1, pytest.param(4, marks=pytest.mark.thorough)]
"""For each operation; a single one is good or bad by turns, several are of both kinds."""
SLOW = ("interrogate", "/caption")
"""Paths that load the captioner."""
EXPLORE = hypothesis.settings(
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a shell stand in for the process that trains."""
    program = tmp_path / "python"
    program.write_text("""#!/bin/sh\necho '{"plan": {}, "chosen": []}'\n""")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(training, "sys", SimpleNamespace(executable=str(program)))


@pytest.mark.usefixtures("no_training")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:schemathesis")
@pytest.mark.parametrize("examples", EXAMPLES)
def test_no_request_of_our_openapi_ends_in_500(tmp_path: Path, examples: int) -> None:
    broken: list[str] = []
    with pretending(tmp_path) as server:
        asked = explore(server, examples, broken)
    assert broken == []
    assert asked > 60


def explore(server: Pretended, examples: int, broken: list[str]) -> int:
    """Send made-up requests to every operation, note what ends in 5xx, and return how many operations there are."""
    schema = schemathesis.openapi.from_dict(server.app.openapi())
    operations = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path.endswith(SLOW):
            continue
        operations += 1
        modes = tuple(GenerationMode)
        for mode in modes if examples > 1 else modes[operations % len(modes) :][:1]:
            send(server, operation.as_strategy(generation_mode=mode), examples, broken)
    return operations


def send(server: Pretended, strategy: Any, examples: int, broken: list[str]) -> None:
    """Send some of the requests of a strategy."""

    @hypothesis.given(strategy)
    @hypothesis.settings(EXPLORE, max_examples=examples)
    def ask(case: Any) -> None:
        answer = case.call(base_url=server.url, timeout=120)
        if answer.status_code >= 500:
            broken.append(f"{answer.status_code} {case.method} {case.formatted_path} {case.body!r}"[:600])

    with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # where nothing can be sent, nothing can be wrong
        ask()
