"""Everything around the loop: a run from request to report.

import brushwork as bw
run = bw.train(base="mini", method="lora", data="photos/", steps=300)
run.generate("a cat", seed=1)
"""

from __future__ import annotations

import datetime
import signal
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brushwork import config as configs
from brushwork import contact, forecast, memory, processes, prompts, provenance, sampling, states, trackers
from brushwork.errors import BrushworkError, ConfigError, RunFailed, UserError, listing
from brushwork.progress import bar, note
from brushwork.runs import RunFolder, check_free

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from PIL.Image import Image

    from brushwork.config import Config
    from brushwork.defaults import Choice
    from brushwork.metrics import Result
    from brushwork.train import Step, Trainer

FALLBACK_PROMPTS = 8
"""So many captions are drawn for the report when the configuration names no prompts."""


class Stopped(RunFailed):
    """The user asked the run to stop; it can be resumed."""

    exit_code = 130


class Run(RunFolder):
    """A run folder with what one wants to do with it."""

    def generate(self, *texts: str, seed: int = 0, **settings: Any) -> list[Image]:
        """Draw each prompt with the tuned model, as it was made to be drawn.

        ``settings`` are fields of ``brushwork.generate.Request``; what is given wins.
        """
        from brushwork import generate, models

        model = models.open_model(str(self.path))
        settings |= sampling.unsaid(model.sampling, settings)
        requests = [generate.Request(prompt=text, seed=seed + place, **settings) for place, text in enumerate(texts)]
        drawn = generate.draw(model.family, requests, label=model.name, model_hash=model.hash, adapters=model.adapters)
        return [picture.image for picture in drawn]

    def evaluate(self, *metrics: str) -> list[Result]:
        """Measure base against tuned on the run's own prompts; all metrics when none is named.

        Each result has a ``value``, its ``interval`` over prompts, ``n`` and, for a difference, ``p``.
        """
        from brushwork.evaluate import evaluate

        return evaluate(self, metrics)

    def report(self) -> Path:
        """Write ``report.html`` and return its path."""
        from brushwork.report import write_report

        return write_report(self)


def train(
    recipe: str | Path | Mapping[str, Any] | Config | None = None,
    *,
    method: str | None = None,
    base: str | None = None,
    data: str | Mapping[str, Any] | None = None,
    steps: int | None = None,
    seed: int | None = None,
    preserve: bool = False,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    evaluate: bool = True,
) -> Run:
    """Train, then measure and report; the arguments are those of ``brushwork train``.

    Raises:
        UserError: The request is wrong; nothing has been written.
        RunFailed: It broke while running, or was stopped; the run folder says where and can be resumed.
    """
    if not isinstance(recipe, configs.Config):
        recipe = configs.load(
            recipe, method=method, overrides=overrides, base=base, data=data, seed=seed,
            preserve={} if preserve else None,
            train=None if steps is None else {"max_train_steps": steps},
        )  # fmt: skip
    if out is not None:
        check_free(out)
    return _carry_out(recipe, lambda config: RunFolder.create(config, out), evaluate=evaluate)


def resume(path: str | Path, *, evaluate: bool = True) -> Run:
    """Go on with the run in a folder, from its own configuration and newest checkpoint.

    Raises:
        UserError: There is nothing left to do, or the base or data changed.
    """
    run = Run(path)
    if run.record["status"] == "done":
        message = f"{run.path}: this run is finished; its report is {run.path / 'report.html'}"
        raise UserError(message)
    return _carry_out(_same_batch(run), lambda _: run, evaluate=evaluate)


def _same_batch(run: Run) -> Config:
    """Return a run's configuration for as many processes as there are now: its effective batch stays what it was.

    Raises:
        ConfigError: They cannot share it equally.
    """
    config, now = run.config, processes.size()
    size, own = config.train.batch, config.train.gradient_accumulation_steps
    total = run.record.get("effective_batch", size * own) // size
    if total % now:
        possible = [str(count) for count in range(1, total + 1) if total % count == 0]
        message = (
            f"{run.path}: each step of this run is {total} batches of {size}, which {now} processes cannot share "
            f"equally. Go on with {listing(possible, len(possible))}."
        )
        raise ConfigError(message)
    train = config.train.model_copy(update={"gradient_accumulation_steps": total // now})
    return config.model_copy(update={"train": train})


@dataclass(frozen=True)
class Plan:
    """What a run would do: its resolved configuration and the facts that follow from it."""

    config: Config
    facts: dict[str, Any]
    chosen: list[Choice]
    """What was chosen by rule, each with its reason."""
    forecast: forecast.Forecast
    """Memory, disk and, if it was calibrated, time."""


def plan(config: Config, *, calibrate: bool = False) -> Plan:
    """Check everything that can be checked without training, and say what the run would do.

    With ``calibrate`` a few steps are timed, for which pictures and captions are encoded into the cache.
    """
    from brushwork.train import prepare

    trackers.check(config.train.trackers)
    trainer = prepare(_with_prompts(config), encode=calibrate)
    said = forecast.of(trainer)
    if calibrate:
        said = forecast.timed(said, trainer.steps())
    seen = trainer.total_steps * trainer.step_size
    trainable = sum(each.numel() for each in trainer.named.values())
    pictures = trainer.data.pictures(trainer.data.own)
    shown = 2 if trainer.data.rejected else 1  # pictures a sample
    facts = {
        "device": trainer.device,
        "family": trainer.family.name,
        "pictures": pictures,
        "held_out": trainer.data.pictures(trainer.data.held_out),
        "steps": trainer.total_steps,
        "effective_batch": trainer.step_size,
        **({"pairs": len(trainer.data.source)} if trainer.data.rejected else {}),
        "times_each_is_seen": round(seen * shown / trainer.data.epoch * len(trainer.data.own) / pictures, 1),
        "pictures_to_draw": sum(len(each.missing) for each in trainer.drawn),
        "trainable_parameters": trainable,
        "trainable_share": round(trainable / _parameters(trainer), 4),
    }
    return Plan(trainer.config, facts, trainer.chosen, said)


def _carry_out(config: Config, folder: Callable[[Config], RunFolder], *, evaluate: bool) -> Run:
    from brushwork import measuring
    from brushwork.train import prepare

    began = time.monotonic()
    world = processes.join()
    with world.telling():
        trackers.check(config.train.trackers)
        config = _with_prompts(config)
        warnings = measuring.check(config) if evaluate and world.is_main else []
        note(f"loading {config.base}")
        with forecast.explaining_out_of_memory(config, beginning=True):
            trainer = prepare(config)
        trainer.warnings += warnings
        for choice in trainer.chosen:
            note(f"  {choice.reason}")
        run = Run(world.decide(folder(trainer.config).path if world.is_main else None))
        if world.is_main:
            seconds = {**run.record.get("seconds", {}), "prepare": time.monotonic() - began}
            with run.locked(), _recording_failure(run), forecast.explaining_out_of_memory(trainer.config):
                run.update(
                    **_opening(trainer),
                    **forecast.told(trainer),
                    started=run.record.get("started", _now()),
                    seconds=seconds,
                )
                _loop(trainer, run)
                del trainer
                if evaluate:
                    _conclude(run)
        else:
            _follow(trainer, run)
            del trainer
        world.exchange()  # when it is done for the main process it is done
    return run


def _with_prompts(config: Config) -> Config:
    """Write the prompts out, so that the run's configuration does not depend on files elsewhere."""
    validation = config.validation
    fallback: list[str] = []
    if not validation.prompts:
        fallback = contact.captions(config.data.build(), FALLBACK_PROMPTS)
    texts = prompts.resolve(validation.prompts, fallback)
    control = prompts.resolve(validation.control_prompts, key="validation.control_prompts")
    content = prompts.resolve(validation.content_prompts, key="validation.content_prompts")
    prompts.check_sets(texts, content, control)
    prompts.check_word(texts, config.method, config.data)
    changes = {"prompts": tuple(texts), "content_prompts": tuple(content), "control_prompts": tuple(control)}
    written: dict[str, Any] = {"validation": validation.model_copy(update=changes)}
    if config.preserve is not None:
        texts = prompts.resolve(config.preserve.prompts, key="preserve.prompts")
        written["preserve"] = config.preserve.model_copy(update={"prompts": tuple(texts)})
    return config.model_copy(update=written)


def _opening(trainer: Trainer) -> dict[str, Any]:
    family, data = trainer.family, trainer.data
    settings: Any = trainer.config.data
    return {
        "status": "running",
        "command": " ".join(["brushwork", *sys.argv[1:]]) if Path(sys.argv[0]).stem == "brushwork" else None,
        "versions": provenance.versions(),
        "git": provenance.git(),
        "device": provenance.device(trainer.device),
        "seed": trainer.config.seed,
        "base": {"name": trainer.config.base, "hash": family.fingerprint, "family": family.name},
        "data": {
            "path": settings.path,
            "count": data.pictures(range(len(data.source) - data.drawn)),
            "held_out": data.pictures(data.held_out),
            "fingerprint": data.fingerprint,
        },
        "drawn": [{"name": each.prior.name, "count": len(each), "folder": str(each.folder)} for each in trainer.drawn],
        "encoded": trainer.encoded,
        **_optimised_judge(trainer),
        "total_steps": trainer.total_steps,
        "processes": trainer.world.size,
        "effective_batch": trainer.step_size,
        # A run that goes on chooses nothing anew: its configuration has the numbers.
        **({"chosen": [vars(choice) for choice in trainer.chosen]} if trainer.chosen else {}),
        "trainable_parameters": sum(each.numel() for each in trainer.named.values()),
        "total_parameters": _parameters(trainer),
        "warnings": trainer.warnings,
    }


def _optimised_judge(trainer: Trainer) -> dict[str, Any]:
    """Return which CLIP model's opinion is being improved, by its hashes; nothing when none is."""
    critic = getattr(trainer.objective, "critic", None)
    if critic is None:
        return {}
    return {"optimised_judge": {key: getattr(critic.clip, key) for key in ("name", "revision", "preprocessing")}}


def _parameters(trainer: Trainer) -> int:
    modules = [trainer.family.denoiser, trainer.family.vae, *trainer.family.text_encoders.values()]
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


@contextmanager
def _recording_failure(run: RunFolder) -> Iterator[None]:
    """Say in run.json how a run ended when it did not end well; the error itself goes on."""
    try:
        yield
    except BaseException as error:
        status = "stopped" if isinstance(error, (Stopped, KeyboardInterrupt)) else "failed"
        reason = str(error) if isinstance(error, BrushworkError) else f"{type(error).__name__}: {error}"
        run.update(status=status, finished=_now(), failure=reason)
        raise


def _loop(trainer: Trainer, run: RunFolder) -> None:
    """Consume the steps: log, track, show, and stop between two steps when asked to."""
    began = time.monotonic()
    if trainer.world.size > 1:
        note(f"{trainer.world.size} processes, {trainer.step_size} pictures in each step")
    if trainer.world.decide(not run.steps()):
        before = trainer.held_out()
        run.update(
            base_validation_loss=before.mean if before else None,
            base_validation_error=before.standard_error if before else None,
        )
    done = states.point(run)
    steps = trainer.steps(run)
    tell_time = forecast.clock(trainer.total_steps)
    last: Step | None = None
    with (
        _stop_requests(trainer.world.stop),
        trackers.tracking(trainer.config.train.trackers, run, purge_after=done) as track,
        bar("training", trainer.total_steps, start=done) as advance,
    ):
        for step in steps:
            run.log(step.to_json())
            track(step)
            numbers = "".join(f"  {name.replace('_', ' ')} {value:.3g}" for name, value in step.numbers.items())
            advance(1, f"loss {step.loss:.4f}{numbers}  {step.images_per_second:.1f} images/s")
            last = step
            tell_time(step)
            if trainer.world.stopping and step.index < trainer.total_steps:
                steps.close()
                message = f"Stopped after step {step.index}. Go on with: brushwork train --resume --out {run.path}"
                raise Stopped(message)
    record, best = run.record, trainer.best.record()
    if best:
        note(best["told"])
    run.update(
        status="trained",
        best=best,
        seconds={**record["seconds"], "train": time.monotonic() - began + record["seconds"].get("train", 0.0)},
        peak_memory_bytes=memory.peak(trainer.device),
        images_per_second=_rate(run) if last else record.get("images_per_second"),
        artefact=_artefact(trainer, run),
        warnings=trainer.warnings,
    )


def _follow(trainer: Trainer, run: RunFolder) -> None:
    """Do this process's share of the steps, whose consumer is the main process."""
    if trainer.world.decide(None):
        trainer.held_out()
    with _stop_requests(trainer.world.stop):
        for step in trainer.steps(run):
            if trainer.world.stopping and step.index < trainer.total_steps:
                message = f"Stopped after step {step.index}."
                raise Stopped(message)


def _rate(run: RunFolder) -> float:
    """Return the median rate over the run's steps: the first ones, which warm up, do not count for much."""
    import statistics

    return float(statistics.median(step["images_per_second"] for step in run.steps()))


def _artefact(trainer: Trainer, run: RunFolder) -> dict[str, Any]:
    path = run.weights / trainer.method.artefact
    size = sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())
    return {"path": str(path.relative_to(run.path)), "bytes": size}


@contextmanager
def _stop_requests(stop: threading.Event) -> Iterator[None]:
    """Within this context, Ctrl-C and SIGTERM set an event; a second Ctrl-C interrupts at once."""
    stop.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: object) -> None:  # noqa: ARG001  (the signature of a handler)
        if stop.is_set():
            raise KeyboardInterrupt
        note("stopping after this step (once more to stop at once)")
        stop.set()

    former = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _conclude(run: Run) -> None:
    """Measure, report, write the model card."""
    from brushwork import card

    began = time.monotonic()
    run.evaluate()
    run.update(status="done", finished=_now(), seconds={**run.record["seconds"], "evaluate": time.monotonic() - began})
    card.write(run)
    run.report()
