"""What the server listens on, what it serves, and how much a client may ask for."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from brushwork.settings import Settings

LEAST_TOKEN = 16
"""Characters; a shorter token can be guessed."""


class Limits(Settings):
    """The most that one request may ask for; each refusal says the limit."""

    side: PositiveInt = Field(2048, description="Pixels of a side.")
    pixels: PositiveInt = Field(2048 * 2048, description="Pixels of a picture.")
    steps: PositiveInt = Field(150, description="Steps of a picture.")
    pictures: PositiveInt = Field(100, description="Pictures of a job.")
    prompt: PositiveInt = Field(8000, description="Characters of a prompt.")
    adapters: PositiveInt = Field(8, description="Adapters of a picture.")
    controlnets: PositiveInt = Field(4, description="ControlNets of a picture.")
    queued: PositiveInt = Field(256, description="Jobs that wait; more are answered 429.")
    body: PositiveInt = Field(32 << 20, description="Bytes of a request.")
    dataset: PositiveInt = Field(2000, description="Pictures of a data set that is made here.")
    datasets: PositiveInt = Field(20 * 10**9, description="Bytes of all data sets that are made here.")
    uploads: PositiveInt = Field(10**9, description="Bytes of pictures that were sent and that no job names yet.")
    trainings: PositiveInt = Field(16, description="Training runs that wait; more are answered 429.")
    upload_pixels: PositiveInt = Field(64_000_000, description="Pixels of a picture that is sent.")
    guidance: PositiveFloat = Field(100.0, description="The guidance scale.")


class Keep(Settings):
    """How long what clients make stays; see ``brushwork.serve.keeping``."""

    pictures: PositiveInt | None = Field(None, description="Drawn pictures, the newest; null: what there is room for.")
    bytes: PositiveInt = Field(20 * 10**9, description="Of drawn and sent pictures; the oldest jobs go first.")
    uploads_hours: PositiveFloat = Field(24.0, description="A sent picture that no job names.")
    exports_hours: PositiveFloat = Field(24.0, description="A file that was exported; it can be made again.")
    datasets_days: PositiveFloat | None = Field(
        None, description="A data set that was made here, untouched and never trained on; null: for ever."
    )


class ServeConfig(Settings):
    """How ``brushwork serve`` was started."""

    host: str = Field("127.0.0.1", description="The address to listen on; other machines reach only another one.")
    port: int = Field(7860, ge=0, le=65535, description="0: any that is free.")
    token: str | None = Field(None, repr=False, description="Whoever asks must know it; needed off this machine.")
    models: tuple[Path, ...] = Field((), description="Folders of models, adapters and embeddings.")
    controlnet: tuple[Path, ...] = Field(
        (), description="ControlNets, or folders of them; and controlnet/ beside runs."
    )
    runs: Path = Field(Path("runs"), description="Where training runs lie.")
    datasets: Path = Field(Path("datasets"), description="Where the data sets lie that are made in the studio.")
    data: Path = Field(Path("served"), description="Where pictures and the history are kept.")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Names by which the server may be asked for besides its own."
    )
    device: str = Field("auto", description="auto, cpu, cuda ...")
    precision: Literal["auto", "no", "fp16", "bf16"] = Field("auto", description="auto: fp16 on a GPU, no on a CPU.")
    memory: PositiveFloat = Field(4.0, description="GiB of models that are kept loaded; one is always kept.")
    together: PositiveInt = Field(8, description="Pictures that are drawn at the same time.")
    limits: Limits = Limits()
    keep: Keep = Keep()

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _guarded(self) -> ServeConfig:
        if not self.local and self.token is None:
            message = (
                f"host: {self.host} can be reached from other machines, so whoever asks must know a token. "
                f"Give one with --token, in BRUSHWORK_TOKEN, or let one be made: --token auto"
            )
            raise ValueError(message)
        if self.token is not None and len(self.token) < LEAST_TOKEN:
            message = f"token: {len(self.token)} characters can be guessed; at least {LEAST_TOKEN}, or --token auto"
            raise ValueError(message)
        return self
