"""A learnt word as a file for another program.

diffusers' file has the word as its key; A1111, Forge and ComfyUI take the file's name for the word and kohya's programs
look for ``emb_params``. Of bases with several text encoders the keys are ``clip_l`` and ``clip_g``, for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from brushwork import embeddings
from brushwork.exports import orders, proof, whole
from brushwork.exports.proof import Proof
from brushwork.formats import headers

if TYPE_CHECKING:
    from pathlib import Path

    from brushwork.exports.orders import Order
    from brushwork.models import LoadedModel


def write(model: LoadedModel, path: Path, order: Order, out: Path) -> tuple[str, Proof]:
    """Write a word's rows and read them back."""
    import torch

    word, rows = embeddings.read(path)
    if "" not in rows:
        names = {part: key for key, part in embeddings.KEYS.items()}
        tensors = {names[part]: values for part, values in rows.items()}
    else:
        (values,) = rows.values()
        tensors = {word if order.target == "diffusers" else "emb_params": values}
    tensors = {
        key: values.detach().to(order.torch_dtype or torch.float32).contiguous() for key, values in tensors.items()
    }
    header = whole.described(model, order.target, out, adapter="textual-inversion", trigger=word)
    headers.save(tensors, out, header if order.metadata else {}, hashed=order.metadata)
    named, back = embeddings.read(out)
    worst = max(float((back[part].float() - values.float()).abs().max()) for part, values in rows.items())
    size = max(float(values.float().abs().max()) for values in rows.values())
    expected = proof.picture(model.family, f"a drawing of {word}", model.sampling)
    fresh = orders.reopened(model, order.device)
    embeddings.attach(fresh, out, named)
    drawn = proof.picture(fresh, f"a drawing of {named}", model.sampling)
    vectors = len(next(iter(rows.values())))
    what = f"the word {word} ({vectors} vector{'s' if vectors > 1 else ''}) for {order.target}"
    if named != word:
        what += f", there called {named}"
    difference = proof.difference(expected, drawn)
    return what, Proof(
        "brushwork", len(rows), worst / size if size else worst, difference, -1, proof.type_name(order.torch_dtype)
    )
