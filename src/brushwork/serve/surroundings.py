"""The environment of the server and of the processes that it starts: no telemetry of any library, no token."""

from __future__ import annotations

import os

TOKEN = "BRUSHWORK_TOKEN"  # noqa: S105  (the variable's name)
QUIET = {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "WANDB_DISABLE_TELEMETRY": "true",
}
"""What huggingface_hub, diffusers, transformers, gradio and wandb read before they report their use."""


def be_quiet() -> None:
    """Turn telemetry off in this process; to be called before the libraries are imported."""
    os.environ.update(QUIET)


def for_children() -> dict[str, str]:
    """Return the environment of a process that the server starts."""
    return {key: value for key, value in os.environ.items() if key != TOKEN} | QUIET
