"""The rules by which a run gets the numbers that nobody gave it, each with its reason.

    config, chosen = resolve(config, look(family, method, objective, data, config))
    chosen[1].reason            # "1,250 steps: 100 pictures x 50 each in batches of 4, at least 400, at most 2,500"

A rule is a pure function of the configuration and of ``Facts`` about base, method and data. What the user, the recipe
or the preset says is never touched. The table of rules, with where each number comes from, is in docs/train.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from brushwork import config as configs
from brushwork import processes
from brushwork.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from brushwork.config import Config, Settings
    from brushwork.encoding import Data
    from brushwork.settings import Sampling
    from brushwork.values import Family, Method, Objective

USUAL_SIZE = 860e6
"""Parameters of the denoiser that the published rates were found on, Stable Diffusion's UNet."""
ADAPTER_RATE, WHOLE_RATE, SUBJECT_RATE = 1e-4, 1e-5, 5e-6
WORD_RATE = 5e-4
"""For each picture of a batch (Gal et al. 2022, arXiv:2208.01618, scale it so)."""
WORD_SHARE = 5.0
"""How much faster a word moves than the adapter beside it."""
LARGEST_FACTOR = 30.0
BY_OPTIMIZER = {"lion": 1 / 3}
"""What AdamW's rate is multiplied by; optimizers that are not here take it as it is."""
OWN_RATE = {"prodigy": (1.0, "it finds the rate itself"), "adafactor": (1e-2, "its steps are relative to the weights")}
NO_RULE = {"muon": "1e-3 to 5e-3 are usual for training from nothing"}

SMALL, LARGE = 100e6, 2e9
"""Denoisers below and above are small (``mini``) and large (SDXL and later)."""
FEWEST_STEPS, WORD_STEPS = 400, 3000
STYLE_TIMES, SUBJECT_TIMES = 50, 200
MOST_ADAPTER, MOST_SUBJECT, MOST_WHOLE = 2500, 2000, 15_000
MOST_IN_TIME = 1_000_000
"""Where seconds end the run."""
WARM_UP_SHARE, LONGEST_WARM_UP = 20, 100
RANK, HIGHER_RANK, MANY = 16, 32, 1000
ENOUGH = 6
"""Held-out pictures: five differences of one sign are p = 0.06, so fewer than six can never show anything."""


@dataclass(frozen=True)
class Facts:
    """What the rules look at."""

    pictures: int
    """Different pictures of the user's that are trained on."""
    held_out: int
    """Different pictures that are not."""
    compared: int
    """How many of those the validation loss looks at."""
    epoch: int
    """In how many samples each of the user's comes once."""
    dilution: float
    """Samples in an epoch for each of the user's own: 1, or 2 when half are pictures that the base drew."""
    parameters: int
    """Of the denoiser."""
    whole: bool
    """Whether the base's own weights change."""
    words: bool
    """Whether nothing but a word is learnt."""
    subject: bool
    """Whether the pictures show one subject."""
    comparable: bool
    """Whether the objective's loss at fixed noise means the same from beginning to end."""
    processes: int = 1
    """How many train together, each on batches of its own."""
    family: str = ""
    sampling: Sampling | None = None
    """How the base is drawn where it wants something of its own."""


@dataclass(frozen=True)
class Choice:
    """A number that was chosen by rule: the setting's key, its value, and a sentence for people."""

    key: str
    value: Any
    reason: str


def look(family: Family, method: Method, objective: Objective, data: Data, config: Config) -> Facts:
    """Collect the facts of a run; the method must not be attached yet, or its weights count with the base's."""
    looked_at = data.held_out[: config.validation.loss_images]
    return Facts(
        pictures=data.pictures(data.own),
        held_out=data.pictures(data.held_out),
        compared=data.pictures(looked_at),
        epoch=data.epoch,
        dilution=data.epoch / len(data.own),
        parameters=sum(parameter.numel() for parameter in family.denoiser.parameters()),
        whole=method.updates_base,
        words=method.trains == {"embeddings"},
        subject=bool(getattr(config.data, "subject", False)),
        comparable=bool(getattr(objective, "comparable", False)),
        processes=processes.size(),
        family=family.name,
        sampling=family.sampling,
    )


def resolve(config: Config, facts: Facts) -> tuple[Config, list[Choice]]:
    """Fill in everything that is left to the rules; what is given stays. Resolving twice changes nothing.

    Raises:
        ConfigError: What was given does not go together with what the rules say.
    """
    chosen = []
    for rule in RULES:
        for choice in rule(config, facts):
            config = _with(config, choice.key.split("."), choice.value)
            chosen.append(choice)
    return configs.load(config.model_dump(mode="json")), chosen


def _with(settings: Settings, keys: list[str], value: Any) -> Any:
    first, *rest = keys
    inner = _with(getattr(settings, first), rest, value) if rest else value
    return settings.model_copy(update={first: inner})


def held_out(config: Config, facts: Facts) -> Iterator[Choice]:
    """``data.validation_split``: see ``encoding.read``, which has done it by now."""
    data: Any = config.data
    if data.validation_split == "auto":
        total = facts.pictures + facts.held_out
        reason = f"{facts.held_out} of {total} pictures held out: a tenth, at most 32, none below 20"
        share = round(facts.held_out / total, 6)
        exact = share if round(share * total) == facts.held_out else round(facts.held_out / total, 15)
        yield Choice("data.validation_split", exact, reason)


def batch(config: Config, facts: Facts) -> Iterator[Choice]:
    """``train.train_batch_size``."""
    if config.train.train_batch_size is not None:
        return
    size = _millions(facts.parameters)
    if facts.parameters < SMALL:
        yield Choice("train.train_batch_size", 8, f"batches of 8: the base is small ({size})")
    elif facts.parameters > LARGE:
        reason = f"batches of 1: the base is large ({size}); train.gradient_accumulation_steps adds them up"
        yield Choice("train.train_batch_size", 1, reason)
    elif facts.subject:
        yield Choice("train.train_batch_size", 2, "batches of 2: a few pictures of one subject")
    else:
        yield Choice("train.train_batch_size", 4, "batches of 4: usual for this size of base")


def steps(config: Config, facts: Facts) -> Iterator[Choice]:
    """``train.max_train_steps``: every picture so many times, within limits; or the epochs that were asked for."""
    key, epochs = "train.max_train_steps", config.train.num_train_epochs
    size = config.train.effective_batch * facts.processes
    if config.train.max_train_steps is not None:
        return
    if config.train.max_train_seconds is not None and epochs is None:
        yield Choice(key, MOST_IN_TIME, f"as many steps as {config.train.max_train_seconds:g} seconds hold")
    elif epochs is not None:
        count = math.ceil(epochs * facts.epoch / size)
        yield Choice(key, count, f"{count:,} steps: {epochs} epochs of {facts.epoch:,} samples in batches of {size}")
    elif facts.words:
        reason = f"{WORD_STEPS:,} steps: usual for a word, however many pictures there are"
        yield Choice(key, WORD_STEPS, reason)
    else:
        times = SUBJECT_TIMES if facts.subject else STYLE_TIMES
        most = MOST_SUBJECT if facts.subject else MOST_WHOLE if facts.whole else MOST_ADAPTER
        wanted = math.ceil(facts.pictures * times * facts.dilution / size)
        count = min(max(wanted, FEWEST_STEPS), most)
        beside = f", and the drawn ones ({facts.dilution:g} x as many in all)" if facts.dilution > 1 else ""
        reason = (
            f"{count:,} steps: {facts.pictures:,} pictures x {times} each{beside} in batches of {size}, "
            f"at least {FEWEST_STEPS}, at most {most:,}"
        )
        yield Choice(key, count, reason)


def warm_up(config: Config, facts: Facts) -> Iterator[Choice]:
    """``optimizer.lr_warmup_steps``."""
    total = config.train.max_train_steps
    if config.optimizer.lr_warmup_steps is not None or total is None:
        return
    key = "optimizer.lr_warmup_steps"
    if facts.words or config.train.max_train_seconds is not None:
        yield Choice(key, 0, f"no warm-up: {'usual for a word' if facts.words else 'nobody knows of how many steps'}")
    else:
        left = total - (config.optimizer.lr_decay_steps or 0)
        count = max(0, min(total // WARM_UP_SHARE, LONGEST_WARM_UP, left))
        reason = f"{count} steps of warm-up: a twentieth of {total:,}, at most {LONGEST_WARM_UP}"
        yield Choice(key, count, reason)


def rate(config: Config, facts: Facts) -> Iterator[Choice]:
    """``optimizer.learning_rate``: what is usual for this way of training, scaled to the base's size.

    Raises:
        ConfigError: The optimizer is one that nobody fine-tunes with.
    """
    kind = config.optimizer.type
    if config.optimizer.learning_rate is not None:
        return
    key = "optimizer.learning_rate"
    if kind in OWN_RATE:
        value, because = OWN_RATE[kind]
        yield Choice(key, value, f"learning rate {_short(value)}: {kind}, {because}")
        return
    if kind in NO_RULE:
        message = f"optimizer.learning_rate: there is no rule for {kind}. Give a rate; {NO_RULE[kind]}."
        raise ConfigError(message)
    factor = BY_OPTIMIZER.get(kind, 1.0)
    of = f", times {factor:.2g} for {kind}" if factor != 1 else ""
    if facts.words:
        size = config.train.effective_batch * facts.processes
        value = _one_digit(WORD_RATE * size * factor)
        yield Choice(
            key, value, f"learning rate {_short(value)}: {_short(WORD_RATE)} for each of {size} pictures in a batch{of}"
        )
        return
    usual = ADAPTER_RATE if not facts.whole else SUBJECT_RATE if facts.subject else WHOLE_RATE
    value = _one_digit(usual * _by_size(facts.parameters) * factor)
    what = "adapters" if not facts.whole else "all weights on one subject" if facts.subject else "all weights"
    scaled = (
        f"; this base has {_millions(facts.parameters)}, and rates go with one over the root of that"
        if _by_size(facts.parameters) > 1
        else ""
    )
    yield Choice(
        key, value, f"learning rate {_short(value)}: {_short(usual)} is usual for {what} of 860 million{scaled}{of}"
    )


def word_rate(config: Config, facts: Facts) -> Iterator[Choice]:  # noqa: ARG001  (every rule has this signature)
    """``method.embedding_lr`` of a word that is learnt beside an adapter."""
    method: Any = config.method
    base = config.optimizer.learning_rate
    if "embedding_lr" not in type(method).model_fields or method.embedding_lr is not None or base is None:
        return
    if config.optimizer.type not in OWN_RATE:
        value = float(f"{WORD_SHARE * base:.3g}")
        yield Choice(
            "method.embedding_lr", value, f"the word's learning rate {_short(value)}: {WORD_SHARE:g} x {_short(base)}"
        )


def rank(config: Config, facts: Facts) -> Iterator[Choice]:
    """``method.rank`` or ``method.lora.rank``."""
    method: Any = config.method
    adapter, key = (method.lora, "method.lora.rank") if hasattr(method, "lora") else (method, "method.rank")
    if getattr(adapter, "rank", 0) is not None or not getattr(adapter, "has_rank", True):
        return
    value = HIGHER_RANK if facts.pictures > MANY else RANK
    reason = f"rank {value}: {RANK} for up to {MANY:,} pictures, {HIGHER_RANK} for more (here {facts.pictures:,})"
    yield Choice(key, value, reason)


def keep_best(config: Config, facts: Facts) -> Iterator[Choice]:
    """``train.keep_best``: only where the held-out loss can say something.

    Raises:
        ConfigError: It was asked for (or early stopping was), and the loss cannot.
    """
    asked, patience = config.train.keep_best, config.train.early_stopping_patience
    problem = _unfit(config, facts)
    if problem and (asked is True or patience is not None):
        name = "train.keep_best=true" if asked is True else "train.early_stopping_patience"
        message = f"{name}: {problem[0]}.\n{problem[1]}"
        raise ConfigError(message)
    if asked != "auto":
        return
    if problem:
        yield Choice("train.keep_best", False, f"the last state is saved: {problem[0]}")  # noqa: FBT003
    else:
        reason = f"the best state is saved, should later ones be worse on the {facts.compared} held-out pictures"
        yield Choice("train.keep_best", True, reason)  # noqa: FBT003


def sampling(config: Config, facts: Facts) -> Iterator[Choice]:
    """``validation.sampler``, ``num_inference_steps`` and ``guidance_scale`` of a base that wants its own."""
    for key, value in _unsaid(config, facts.sampling).items():
        yield Choice(f"validation.{key}", value, f"{key.replace('_', ' ')} {value}: how {facts.family} is drawn")


def as_drawn(config: Config, family: Family) -> Config:
    """Return the configuration with ``sampling``'s choices only: for what the base draws before there are facts."""
    changes = _unsaid(config, family.sampling)
    return config.model_copy(update={"validation": config.validation.model_copy(update=changes)})


def _unsaid(config: Config, wanted: Sampling | None) -> dict[str, Any]:
    """Return what a base wants to be drawn with and nobody said otherwise."""
    if wanted is None:
        return {}
    own = {"sampler": wanted.sampler, "num_inference_steps": wanted.steps, "guidance_scale": wanted.guidance_scale}
    given = config.validation.model_fields_set
    return {key: value for key, value in own.items() if key not in given and getattr(config.validation, key) != value}


def _unfit(config: Config, facts: Facts) -> tuple[str, str] | None:
    """Say why the held-out loss cannot choose, and what would help."""
    if not facts.comparable:
        return (
            f"the loss of {config.objective.type} does not mean the same throughout a run, so no state is best by it",
            "Leave it out, or use objective.type=denoising.",
        )
    if facts.compared >= ENOUGH:
        return None
    total = facts.pictures + facts.held_out
    share = math.ceil(100 * ENOUGH / total) / 100
    fix = (
        f"Set data.validation_split={share:g} and validation.loss_images={ENOUGH} or more, or leave it out."
        if total >= 2 * ENOUGH
        else "Of so few pictures none can be spared: leave it out, and look at the samples."
    )
    return f"to choose takes {ENOUGH} held-out pictures or more, and of {total} here {facts.compared} are compared", fix


def _by_size(parameters: int) -> float:
    """Return what published rates are multiplied by: for Adam the best rate goes with one over the width.

    (Yang et al. 2022, arXiv:2203.03466, table 3; a net's parameters go with the square of its width.) Never below 1:
    larger bases are trained with the same published rates.
    """
    return min(max(1.0, math.sqrt(USUAL_SIZE / parameters)), LARGEST_FACTOR)


def _one_digit(value: float) -> float:
    return float(f"{value:.0e}")


def _short(value: float) -> str:
    """Write 0.0001 as 1e-4."""
    digits, _, exponent = f"{value:.6e}".partition("e")
    return f"{float(digits):g}e{int(exponent)}" if value < 0.01 else f"{value:g}"  # noqa: PLR2004


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g} million parameters" if count < 1e9 else f"{count / 1e9:.3g} billion parameters"  # noqa: PLR2004


RULES = (held_out, batch, steps, warm_up, rate, word_rate, rank, keep_best, sampling)
"""In this order: some read what those before them chose."""
