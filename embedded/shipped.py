"""Start the makers from what ships, when the checkpoints of an earlier training are gone.

python -m embedded.shipped       # writes scratch/{vae,text,clip}.pt where they are missing

Weights only: optimizers and averages start anew. The tokenizer stays as it ships, since the nets know its numbers.
"""

from typing import Any

from embedded import tokenizer as tokenizers
from embedded.paths import ASSETS, WORK


def main() -> None:
    """Write every checkpoint that is missing."""
    import torch
    from diffusers import AutoencoderKL
    from transformers import CLIPModel, CLIPTextModel

    def weights(kind: Any, folder: str) -> dict[str, Any]:
        return dict(kind.from_pretrained(ASSETS / folder).float().state_dict())

    WORK.mkdir(exist_ok=True)
    states = {
        "vae": {"vae": weights(AutoencoderKL, "mini/vae"), "seen": 0},
        "text": weights(CLIPTextModel, "mini/text_encoder"),
        "clip": {"clip": weights(CLIPModel, "mini-clip"), "seen": 0},
    }
    for name, state in states.items():
        if not (WORK / f"{name}.pt").exists():
            torch.save(state, WORK / f"{name}.pt")
    tokenizers.keep_shipped()


if __name__ == "__main__":
    main()
