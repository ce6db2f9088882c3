"""Taking what was made elsewhere: files for other programs, each read back and compared before it is called done.

    for done in export("runs/old-books", Order("kohya", Path("old-books.safetensors"))):
        print(done.said)        # old-books.safetensors: 128 layers for kohya ... read back by diffusers, same picture

MODEL is what ``brushwork.models`` reads. An adapter is exported as an adapter; ``merge`` puts it into its base.
"""

from __future__ import annotations

import functools
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from brushwork import embeddings, models
from brushwork.errors import ConfigError, ModelError
from brushwork.exports import adapters, proof, whole, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from brushwork.exports.orders import Order
    from brushwork.exports.proof import Proof
    from brushwork.models import ModelSpec


@dataclass(frozen=True)
class Written:
    """A file or folder that was written, and what reading it back showed."""

    path: Path
    what: str
    size: int
    proof: Proof

    @property
    def said(self) -> str:
        """One line for people."""
        return f"{self.path}: {self.what}, {self.size / 1e6:.1f} MB. {self.proof}"

    def as_json(self) -> dict[str, Any]:
        """The same for programs."""
        return {"path": str(self.path), "what": self.what, "bytes": self.size, "verified": asdict(self.proof)}


def export(text: str, order: Order, *, merge: bool = False) -> Iterator[Written]:
    """Write a model, its adapter or its words for another program, and prove each file by reading it.

    Args:
        text: MODEL.
        order: What is wanted.
        merge: Put the adapters into the base's weights.

    Raises:
        ModelError: There is nothing of the kind to export, or the target could not use it.
        RunFailed: What was written does not say the same when it is read back; it is removed then.
    """
    spec = models.parse(text)
    _, _, found = models.resolve(spec)
    files = [(each, path) for each, paths in found for path in paths]
    loras = [(each, path) for each, path in files if not embeddings.recognises(path)]
    _check(order, spec, has_adapters=bool(files), merge=merge, loras=len(loras))
    if merge and len(loras) < len(files):
        message = "export: a word is no weight of the base and cannot be merged. Leave it out and export it by itself."
        raise ModelError(message)
    opened = models.open_model(spec, device=order.device)
    if merge or not files:
        yield _proved(order.out, lambda: whole.write(opened, order))
        return
    for asked, path in loras:
        yield _proved(order.out, functools.partial(adapters.write, opened, path, asked.weight, order))
    for _, path in files:
        if embeddings.recognises(path):
            out = order.out if not loras else order.out.with_name(f"{order.out.stem}-word.safetensors")
            yield _proved(out, functools.partial(words.write, opened, path, order, out))


def _proved(path: Path, write: Callable[[], tuple[str, Proof]]) -> Written:
    """Write and read back; what is not what it should be, or could not be read, does not stay."""
    try:
        what, found = write()
        proof.check(found, path)
    except BaseException:
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        raise
    every = path.rglob("*") if path.is_dir() else [path]
    return Written(path, what, sum(each.stat().st_size for each in every if each.is_file()), found)


def _check(order: Order, spec: ModelSpec, *, has_adapters: bool, merge: bool, loras: int) -> None:
    """Refuse what cannot be, before anything is loaded."""
    target, out = order.target, order.out
    is_folder = target == "diffusers" and (merge or not has_adapters)
    if merge and not has_adapters:
        message = f"export: {spec.text!r} has no adapter to merge. Leave --merge out, or name one: {spec.text}+ADAPTER"
        raise ConfigError(message)
    if target in ("kohya", "comfyui") and (merge or not has_adapters):
        why = "--merge makes a whole model" if merge else f"{spec.text!r} is a whole model"
        message = f"export: {why}, and --to {target} writes adapters. Use --to single-file or --to diffusers."
        raise ConfigError(message)
    if target == "single-file" and not merge and has_adapters:
        message = (
            f"export: a single file holds a whole model, and {spec.text!r} is a base with an adapter. Add --merge, or "
            f"write the adapter alone: --to kohya, --to comfyui"
        )
        raise ConfigError(message)
    if loras > 1 and not merge:
        message = f"export: {spec.text!r} has {loras} adapters, and a file holds one. Export one at a time, or --merge."
        raise ConfigError(message)
    if is_folder and out.suffix == ".safetensors":
        message = (
            f"--out: a whole model --to diffusers is a folder; {str(out)!r} looks like a file. Leave the ending out."
        )
        raise ConfigError(message)
    if not is_folder and out.suffix != ".safetensors":
        message = f"--out: {str(out)!r} does not end in .safetensors, which is what is written. Try {out}.safetensors"
        raise ConfigError(message)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        message = f"--out: {str(out)!r} exists already. Choose another, or remove it."
        raise ConfigError(message)
