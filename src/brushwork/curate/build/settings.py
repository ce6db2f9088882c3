"""What ``brushwork data build`` is asked to do: one tree of settings, as a recipe in YAML or from the command line.

metadata: [laion/*.parquet]
filter: {resolution: 512, similarity: 0.28, dedupe: [url, caption]}
image: {size: 512, mode: centre}
output: {format: webdataset}
"""

from __future__ import annotations

import ipaddress
import os
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from brushwork.config import merge, parse_override, read_yaml
from brushwork.curate.build.criteria import FilterConfig, unfold
from brushwork.curate.pixels import PictureConfig
from brushwork.errors import ConfigError
from brushwork.explain import explain
from brushwork.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

ROLES = Literal[
    "url", "caption", "width", "height", "language", "similarity", "watermark", "unsafe", "aesthetic", "license"
]


class FetchConfig(Settings):
    """How pictures are fetched."""

    concurrency: PositiveInt = Field(64, description="Requests at a time.")
    per_host: PositiveInt = Field(4, description="Of them to one host.")
    delay: NonNegativeFloat = Field(0.1, description="Seconds between the starts of two requests to one host.")
    timeout: PositiveFloat = Field(30.0, description="Seconds for one request with its body.")
    connect_timeout: PositiveFloat = Field(10.0, description="Of them to connect.")
    retries: NonNegativeInt = Field(
        2, description="After time-outs, broken connections and the answers 408, 425, 429, 500, 502, 503 and 504."
    )
    backoff: NonNegativeFloat = Field(
        1.0, description="Seconds before the first retry, doubled for each further one, times a random 0.5 to 1.5."
    )
    max_redirects: NonNegativeInt = Field(5, description="Each is checked as the first address is.")
    max_bytes: PositiveInt = Field(20_000_000, description="Larger files are not read to their end.")
    allow_private: bool | tuple[str, ...] = Field(
        default=False,
        description="Fetch from private, loopback and link-local addresses: all of them, or those of networks such as "
        "10.1.0.0/16.",
    )
    honour_opt_outs: bool = Field(
        default=True,
        description="Leave out what X-Robots-Tag (noai, noimageai, noindex, noimageindex, none), TDM-Reservation or "
        "Content-Usage reserve.",
    )
    user_agent: str = Field("brushwork", min_length=1, description="What servers are told; opt-outs may name it.")

    @field_validator("allow_private")
    @classmethod
    def _are_networks(cls, value: bool | tuple[str, ...]) -> bool | tuple[str, ...]:  # noqa: FBT001  (pydantic's)
        for each in () if isinstance(value, bool) else value:
            ipaddress.ip_network(each)  # raises a ValueError that says what is wrong
        return value


class OutputConfig(Settings):
    """What is written."""

    format: Literal["folder", "webdataset"] = Field(
        "folder", description="folder: pictures and metadata.jsonl. webdataset: shards 00000.tar and so on."
    )
    shard_size: PositiveInt = Field(1000, description="Pictures in a shard, or in each folder below images/.")


class EngineConfig(Settings):
    """What does the work."""

    type: Literal["local", "ray"] = Field("local", description="Processes of this machine, or Ray (extra ray).")
    workers: NonNegativeInt | None = Field(
        None,
        description="Processes that decode, or Ray tasks at a time. null: one for each core; 0: no process of its own.",
    )
    part_size: PositiveInt = Field(
        100, description="Rows that are done together; a kill costs those that are under way."
    )
    address: str | None = Field(None, description="Of a Ray cluster that runs, such as auto; null: start one here.")

    @model_validator(mode="after")
    def _fits_the_engine(self) -> EngineConfig:
        if self.type != "ray" and self.address is not None:
            message = "address is Ray's, but type is local; set type=ray or leave it out"
            raise ValueError(message)
        if self.type == "ray" and self.workers == 0:
            message = "workers is 0, but Ray needs at least 1"
            raise ValueError(message)
        return self

    @property
    def processes(self) -> int:
        """How many processes decode."""
        return (os.cpu_count() or 1) if self.workers is None else self.workers


class BuildConfig(Settings):
    """Everything that determines a data set built from metadata."""

    metadata: tuple[str, ...] = Field(
        min_length=1, description="Parquet or CSV files, or patterns such as laion/*.parquet."
    )
    columns: dict[ROLES, str] = Field({}, description="Columns that are not found by their names, such as url: link.")
    filter: FilterConfig = Field(FilterConfig(), description="Which rows are fetched.")
    fetch: FetchConfig = Field(FetchConfig(), description="How pictures are fetched.")
    image: PictureConfig = Field(PictureConfig(), description="What becomes of each picture.")
    output: OutputConfig = Field(OutputConfig(), description="What is written.")
    engine: EngineConfig = Field(EngineConfig(), description="What does the work.")
    memory: PositiveInt = Field(80, ge=50, description="Megabytes that the filter may use before it turns to the disk.")
    seed: NonNegativeInt = Field(0, description="Decides the random part of waiting times.")


def load(
    recipe: str | Path | Mapping[str, Any] | None = None,
    *,
    presets: Sequence[str] = (),
    overrides: Sequence[str] = (),
    **top: Any,
) -> BuildConfig:
    """Build the settings: defaults < presets < recipe < ``top`` < ``overrides``.

    Args:
        recipe: A YAML file or the mapping in it.
        presets: Criteria by name, such as ``similarity`` or ``resolution=512`` (:data:`criteria.PRESETS`).
        overrides: ``key.path=value`` texts.
        top: Parts by name, such as ``metadata=["a.parquet"]``.

    Raises:
        ConfigError: With every wrong key and value at once.
    """
    where = "config" if recipe is None or not isinstance(recipe, (str, os.PathLike)) else str(recipe)
    tree: dict[str, Any] = {"filter": unfold(presets)} if presets else {}
    above = read_yaml(recipe) if isinstance(recipe, (str, os.PathLike)) else dict(recipe or {})
    for part in [above, top, *map(parse_override, overrides)]:
        tree = merge(tree, part)
    if isinstance(tree.get("metadata"), str):
        tree["metadata"] = [tree["metadata"]]
    try:
        return BuildConfig.model_validate(tree)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, BuildConfig, where))) from None


def to_yaml(config: BuildConfig) -> str:
    """Write all settings; ``load`` of it gives equal ones."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
