"""How much memory an arithmetic takes at its peak, found without doing it.

    with rehearsal() as watch:
        predicted = family.predict(latents, timesteps, conditioning)        # nothing is computed, nothing is allocated
    watch.peak                                                              # bytes that were alive at once

Within a rehearsal tensors have shapes but no numbers (torch's FakeTensorMode), real weights included; every operation's
outputs are counted from when they are made until nothing holds them, the tensors that autograd keeps among them.
"""

from __future__ import annotations

import contextlib
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Watch:
    """Bytes of storages that were made since, and are alive: now and at most."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self._known: set[int] = set()

    def see(self, storage: Any) -> None:
        """Count a storage until it is gone."""
        key, size = storage._cdata, storage.nbytes()  # noqa: SLF001  (its identity, for which torch has no other name)
        if key in self._known or not size:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


_stage: ContextVar[Any] = ContextVar("stage", default=None)
"""The mode that made the modules of a stage; a rehearsal on it is in the same mode."""


@contextlib.contextmanager
def stage() -> Iterator[None]:
    """Within this context modules are made without numbers, of any size, for rehearsals within it."""
    from unittest.mock import patch

    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode(allow_non_fake_inputs=True)
    token = _stage.set(mode)
    # torch cannot move modules without numbers, and they are where they should be.
    try:
        with mode, patch.object(torch.nn.Module, "to", lambda module, *_, **__: module):
            yield
    finally:
        _stage.reset(token)


@contextlib.contextmanager
def rehearsal() -> Iterator[Watch]:
    """Within this context torch computes shapes only, and what would be allocated is watched."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    watch = Watch()

    class Watching(TorchDispatchMode):
        """Shows every operation's outputs to the watch."""

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = function(*args, **(kwargs or {}))
            # A view is nothing new: of a weight it would count the weight.
            if not all(each.alias_info for each in function._schema.returns):  # noqa: SLF001  (torch's own way to ask)
                for each in tree_leaves(made):
                    if isinstance(each, torch.Tensor):
                        watch.see(each.untyped_storage())
            return made

    with _stage.get() or FakeTensorMode(allow_non_fake_inputs=True), Watching():  # type: ignore[no-untyped-call]  # torch's
        yield watch
