"""A run on the Hugging Face hub: its model card, its weights, its last samples. Only ever on request.

    bundle = pack(RunFolder("runs/old-books"), "me/old-books")
    for name, size in bundle.sizes: ...
    url = push(bundle, private=True)

The weights lie at the repository's root, where diffusers looks for them. The card says nothing of this machine's
folders. The token comes from HF_TOKEN or ``hf auth login``; it is never printed or written.
"""

from __future__ import annotations

import importlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from brushwork import card, embeddings, peft_files
from brushwork.errors import ModelError, RunFailed, UserError

if TYPE_CHECKING:
    from brushwork.runs import RunFolder

SHOWN = 4
"""Samples that the hub shows above the card."""

READ_HERE = {peft_files.NAME: "import json\n", embeddings.WEIGHT_NAME: "from safetensors.torch import load_file\n"}
"""Files that the card's lines open themselves, and the line of theirs that another import goes to."""
FETCHING = "{}\nfrom huggingface_hub import hf_hub_download\n"


@dataclass(frozen=True)
class Bundle:
    """What goes to a repository: files by their names there; the card as bytes."""

    repo: str
    files: dict[str, Path | bytes]

    @property
    def sizes(self) -> list[tuple[str, int]]:
        """Every name with its bytes."""
        return [
            (name, len(held) if isinstance(held, bytes) else held.stat().st_size) for name, held in self.files.items()
        ]


def pack(run: RunFolder, repo: str) -> Bundle:
    """Put together what would be uploaded.

    Raises:
        ModelError: The run has no weights.
        UserError: The repository's name is none.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # public, but not marked so

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        message = f"push: {repo!r} is no name of a repository. Write OWNER/NAME, for example me/{run.path.name}"
        raise UserError(message) from error
    if repo.count("/") != 1:
        message = f"push: {repo!r} has no owner. Write OWNER/NAME, for example me/{repo.rsplit('/', 1)[-1]}"
        raise UserError(message)
    weights = sorted(each for each in run.weights.rglob("*") if each.is_file()) if run.weights.is_dir() else []
    if not weights:
        message = (
            f"push: the run {str(run.path)!r} has no weights yet.\n"
            f"Go on with it: brushwork train --resume --out {run.path}"
        )
        raise ModelError(message)
    pictures, prompts = _samples(run)
    files: dict[str, Path | bytes] = {"README.md": _card(run, repo, prompts).encode()}
    files |= {each.relative_to(run.weights).as_posix(): each for each in weights}
    return Bundle(repo, files | {f"samples/{each.name}": each for each in pictures})


def _samples(run: RunFolder) -> tuple[list[Path], dict[str, str]]:
    """Return the pictures of the last sample sheet, and the prompt of each by its name."""
    folder = run.path / "samples"
    steps = sorted((each for each in folder.glob("*") if each.name.isdigit()), key=lambda each: int(each.name))
    pictures = sorted(steps[-1].glob("*.png")) if steps else []
    told = folder / "prompts.json"
    texts: list[str] = json.loads(told.read_text("utf-8")) if told.is_file() else []
    numbers = {each.name: each.stem.partition("-")[0] for each in pictures}
    return pictures, {name: texts[int(at)] for name, at in numbers.items() if at.isdigit() and int(at) < len(texts)}


def _card(run: RunFolder, repo: str, prompts: dict[str, str]) -> str:
    """Return the run's card as it is right on the hub: by the repository's name, without paths of this machine."""
    text, config = card.text(run), run.config
    whole = (run.weights / "model_index.json").is_file()
    name = repo.rsplit("/", 1)[1]
    theirs = (
        f"brushwork generate {repo}"
        if whole
        else (f"hf download {repo} --local-dir {name}\nbrushwork generate {config.base}+{name}")
    )
    text = text.replace(f"brushwork generate {run.path.name}", theirs).replace('"weights"', f'"{repo}"')
    for file, line in READ_HERE.items():
        fetched = f'hf_hub_download("{repo}", "{file}")'
        text = text.replace(f'"weights/{file}"', fetched)
        if fetched in text:
            text = text.replace(line, FETCHING.format(line), 1)
    data = getattr(config.data, "path", "")
    for path in (config.base, data):
        if _is_local(path):
            text = re.sub(rf"^base_model: {re.escape(path)}\n", "", text, flags=re.MULTILINE)
            text = text.replace(path, Path(path).name)
    if config.base == "mini":  # embedded in brushwork, no repository of the hub
        text = text.replace("base_model: mini\n", "", 1)
    shown = "".join(
        f"- text: {json.dumps(prompt)}\n  output:\n    url: samples/{picture}\n"
        for picture, prompt in list(prompts.items())[:SHOWN]
    )
    return text.replace("tags:\n", f"widget:\n{shown}tags:\n", 1) if shown else text


def _is_local(path: str) -> bool:
    return path.startswith((".", "/", "~")) or Path(path).expanduser().exists()


def push(bundle: Bundle, *, private: bool = False) -> str:
    """Upload it in one commit and return the repository's address.

    Raises:
        UserError: There is no token.
        RunFailed: The hub or the network refused.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if not get_token():
        message = "push: there is no token for the hub. Set HF_TOKEN, or log in once: hf auth login"
        raise UserError(message)
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="brushwork")
    operations = [CommitOperationAdd(name, held) for name, held in bundle.files.items()]
    try:
        url = api.create_repo(bundle.repo, private=private, exist_ok=True)
        api.create_commit(bundle.repo, operations, commit_message="Upload with brushwork")
    except OfflineModeIsEnabled as error:
        message = "push: HF_HUB_OFFLINE is set, so nothing can be uploaded. Unset it."
        raise UserError(message) from error
    except HfHubHTTPError as error:
        code = error.response.status_code
        why = error.server_message or str(error).splitlines()[0]
        message = f"push: the hub refused ({code}): {why}\nMay this token write to {bundle.repo}?"
        raise RunFailed(message) from error
    except (_unreachable(), RuntimeError, OSError) as error:  # its client wraps a failed upload in a RuntimeError
        why = str(error.__cause__ or error).partition("\n")[0] or type(error).__name__
        message = f"push: the hub could not be reached: {why}"
        raise RunFailed(message) from error
    return str(url)


def _unreachable() -> type[Exception]:
    """Return what the hub's client raises without a network; which library it uses is its own affair."""
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]  # public, but not marked so

    library = importlib.import_module(type(get_session()).__module__.partition(".")[0])
    unreachable: type[Exception] = library.HTTPError
    return unreachable
