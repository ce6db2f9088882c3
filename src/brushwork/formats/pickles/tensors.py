"""Tensors out of the notes that ``machine`` leaves: which call would have made one, and of which numbers.

found = collect(tree)
found.tensors["model.diffusion_model.out.2.bias"].shape, found.dropped, found.called
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from brushwork.formats.pickles.containers import Storage, storage_of
from brushwork.formats.pickles.machine import Call, Extension, Name, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REBUILD = {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"}
PARAMETER = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
WRAPPED = "torch._tensor._rebuild_from_type_v2"
ORDERED = "collections.OrderedDict"
HARMLESS = {*REBUILD, *PARAMETER, WRAPPED, ORDERED, "torch.Size", "torch.nn.parameter.Parameter"}
MOST_EXPANDED = 1 << 26
"""Bytes that a tensor may have beyond those of its storage: a row that was stretched, not a bomb of one number."""
MOST_DEPTH = 8
AVERAGED = "model_ema."


@dataclass(frozen=True)
class Picture:
    """A tensor as it lies in its storage: shape and strides in numbers, like torch's."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        """The type's name in a safetensors file."""
        return self.storage.dtype

    @property
    def size(self) -> int:
        """Its bytes when it is written."""
        return math.prod(self.shape) * self.storage.item

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Return its bytes in order, the last axis fastest."""
        item, data = self.storage.item, self.storage.data
        if not self.size:
            return
        if self._is_contiguous:
            yield data[self.offset * item : self.offset * item + self.size]
            return
        *outer, (count, step) = zip(self.shape, self.stride, strict=True)
        for start in _starts(outer, self.offset):
            if step == 1:
                yield data[start * item : (start + count) * item]
            else:
                row = bytearray(count * item)
                for byte in range(item):  # each byte of the numbers at once: slices are fast, loops are not
                    last = (start + (count - 1) * step) * item + byte + 1
                    row[byte::item] = (
                        bytes(data[start * item + byte : last : step * item])
                        if step
                        else (bytes(data[start * item + byte : start * item + byte + 1]) * count)
                    )
                yield bytes(row)

    @property
    def _is_contiguous(self) -> bool:
        expected = 1
        for count, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if count != 1 and step != expected:
                return False
            expected *= count
        return True


def _starts(axes: Sequence[tuple[int, int]], offset: int) -> Iterator[int]:
    if not axes:
        yield offset
        return
    (count, step), *rest = axes
    for index in range(count):
        yield from _starts(rest, offset + index * step)


@dataclass
class Found:
    """What was in a file: tensors by name, what was left out, and which functions it wanted called."""

    tensors: dict[str, Picture] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    called: list[str] = field(default_factory=list)
    name: str = ""


def collect(tree: Any) -> Found:
    """Return the weights in a checkpoint's tree.

    Of a trainer's checkpoint that is ``state_dict``; of A1111's embedding the rows; else every tensor under the dotted
    path of its keys.

    Raises:
        Refused: A tensor in it is impossible.
    """
    found, left, calls = Found(), Counter[str](), Counter[str]()
    root, prefix = _unwrapped(tree), ""
    if isinstance(root, dict) and "string_to_param" in root:
        _embedding(root, found)
        return _told(found, left, calls, tree)
    if isinstance(root, dict) and isinstance(_unwrapped(root.get("state_dict")), dict):
        for key, value in root.items():
            if key != "state_dict":
                left[f"{key} ({_kind(value)})"] += 1
        root = _unwrapped(root["state_dict"])
    _walk(root, prefix, found, left, 0)
    return _told(found, left, calls, tree)


def _embedding(root: dict[Any, Any], found: Found) -> None:
    """Take the rows of a word and the name it goes by; step counts and hashes of the base stay behind."""
    parameters = _unwrapped(root["string_to_param"])
    rows = [_tensor(value) for value in parameters.values()] if isinstance(parameters, dict) else []
    if len(rows) != 1 or rows[0] is None:
        message = f"it is an embedding with {len(rows)} words; one was expected"
        raise Refused(message)
    found.tensors["emb_params"] = rows[0]
    found.name = root["name"] if isinstance(root.get("name"), str) else ""
    found.dropped += [f"{key} ({_kind(value)})" for key, value in root.items() if key != "string_to_param"]


def _walk(value: Any, path: str, found: Found, left: Counter[str], depth: int) -> None:
    tensor = _tensor(value)
    inner = _unwrapped(value)
    if tensor is not None:
        if path.startswith(AVERAGED):
            left[f"{AVERAGED}* (the average of the training; the weights themselves are kept)"] += 1
        elif path in found.tensors:
            message = f"it has two tensors called {path!r}"
            raise Refused(message)
        else:
            found.tensors[path or "tensor"] = tensor
    elif isinstance(inner, dict) and depth < MOST_DEPTH:
        for key, each in inner.items():
            if isinstance(key, (str, int)):
                _walk(each, f"{path}.{key}" if path else str(key), found, left, depth + 1)
            else:
                left[f"{path}[{_kind(key)}]"] += 1
    elif isinstance(inner, list) and depth < MOST_DEPTH and any(_tensor(each) for each in inner[:1]):
        for index, each in enumerate(inner):
            _walk(each, f"{path}.{index}", found, left, depth + 1)
    else:
        left[f"{path or 'all of it'} ({_kind(value)})"] += 1


def _unwrapped(value: Any) -> Any:
    """Return the dict that an ``OrderedDict`` would have been."""
    if isinstance(value, Call) and str(value.function) == ORDERED and isinstance(value.function, Name):
        listed = value.arguments[0] if value.arguments and isinstance(value.arguments[0], list) else []
        pairs = {each[0]: each[1] for each in listed if isinstance(each, (list, tuple)) and _is_pair(each)}
        return {**pairs, **value.items}
    return value


def _is_pair(value: Sequence[Any]) -> bool:
    return len(value) == 2 and isinstance(value[0], (str, int))  # noqa: PLR2004  (a pair)


def _tensor(value: Any, depth: int = 0) -> Picture | None:
    """Return the tensor that a call would have made, or None."""
    if not isinstance(value, Call) or not isinstance(value.function, Name) or depth > MOST_DEPTH:
        return None
    function, given = str(value.function), value.arguments
    if function in REBUILD and len(given) >= 4:  # noqa: PLR2004  (storage, offset, shape, stride)
        return _picture(*given[:4])
    if function in PARAMETER and given:
        return _tensor(given[0], depth + 1)
    if function == WRAPPED and len(given) >= 3 and isinstance(given[2], tuple):  # noqa: PLR2004  (function, type, given)
        return _tensor(Call(given[0], given[2]), depth + 1)
    return None


def _picture(held: Any, offset: Any, shape: Any, stride: Any) -> Picture:
    storage = storage_of(held)
    sides = [_integers(each) for each in (shape, stride)]
    if storage is None or not isinstance(offset, int) or None in sides or len(sides[0] or ()) != len(sides[1] or ()):
        message = "a tensor in it is made of something that is no numbers"
        raise Refused(message)
    shape, stride = (tuple(each or ()) for each in sides)
    picture = Picture(storage, offset, shape, stride)
    reach = offset + sum((count - 1) * step for count, step in zip(shape, stride, strict=True)) + 1
    if min((*shape, *stride, offset), default=0) < 0 or (picture.size and reach > storage.count):
        message = f"a tensor in it reaches beyond its numbers ({reach:,} of {storage.count:,})"
        raise Refused(message)
    if picture.size > storage.count * storage.item + MOST_EXPANDED:
        message = f"a tensor in it would be {picture.size:,} bytes out of {storage.count * storage.item:,}"
        raise Refused(message)
    return picture


def _integers(value: Any) -> list[int] | None:
    """Return the numbers of a shape, which may be a ``torch.Size`` that would have been made."""
    if isinstance(value, Call) and str(value.function) == "torch.Size" and value.arguments:
        value = value.arguments[0]
    if not isinstance(value, (tuple, list)) or any(type(each) is not int for each in value):
        return None
    return list(value)


def _kind(value: Any) -> str:
    """Return in a few words what something is."""
    if isinstance(value, Call):
        return f"a {value.function}" if isinstance(value.function, Name) else "an object"
    if isinstance(value, (dict, list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _told(found: Found, left: Counter[str], calls: Counter[str], tree: Any) -> Found:
    found.dropped += [what if count == 1 else f"{what}, {count} times" for what, count in left.items()]
    _calls_in(tree, calls)
    found.called = [f"{name}, {count} times" if count > 1 else name for name, count in calls.most_common()]
    return found


def _calls_in(tree: Any, calls: Counter[str]) -> None:
    """Count the functions that the file names besides torch's own; each object once, however often it is there."""
    seen: set[int] = set()
    waiting: list[Any] = [tree]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        if isinstance(value, Call):
            seen.add(id(value))
            waiting += [value.function, *value.arguments, *value.state, *value.items, *value.items.values()]
        elif isinstance(value, Extension):
            calls[f"the registered extension {value.code}"] += 1
        elif isinstance(value, Name):  # named is as good as called: functions are handed to others, too
            if str(value) not in HARMLESS and value.module != "torch":
                calls[str(value)] += 1
        elif isinstance(value, dict):
            seen.add(id(value))
            waiting += [*value, *value.values()]
        elif isinstance(value, (list, tuple)):
            seen.add(id(value))
            waiting += value
