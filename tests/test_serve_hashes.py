"""The hash of a single file in the list of models, which the checkpoint picker shows: found out in the background."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
from pretending import pretending
from safetensors.torch import save_file

if TYPE_CHECKING:
    from pathlib import Path


def test_a_single_file_is_listed_with_its_hash_as_soon_as_it_is_known(tmp_path: Path) -> None:
    file = tmp_path / "models" / "tuned.safetensors"
    file.parent.mkdir()
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(4, 4, 3, 3)}, file)
    with pretending(tmp_path, models=(file.parent,)) as server:

        def titles() -> list[str]:
            return [each["title"] for each in server.ask("GET", "/api/v1/models").json()]

        assert titles() == ["mini", "tuned"], "nobody waits for it"
        server.until(lambda: server.engine._hashing is not None and server.engine._hashing.done())
        assert titles() == ["mini", f"tuned [{hashlib.sha256(file.read_bytes()).hexdigest()[:10]}]"]
