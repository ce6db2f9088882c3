"""The one loop. Family, method, source and objective meet here and nowhere else.

    for step in steps(config):
        print(step.index, step.loss)

``steps`` yields a ``Step`` after each optimizer step; progress bars, logs, trackers and tests are its consumers. With a
run folder it also writes samples, checkpoints and, at the end, what the method made; see ``brushwork.api.train`` for
everything around it.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from brushwork import (
    agreement,
    batches,
    best,
    defaults,
    encoding,
    execution,
    families,
    memory,
    offload,
    optim,
    prior,
    processes,
    release,
    sampling,
    states,
)
from brushwork.curate import gate
from brushwork.devices import resolve_device, resolve_dtype
from brushwork.runs import replacing
from brushwork.seeds import derive
from brushwork.tally import Tally
from brushwork.values import Task
from brushwork.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from brushwork.batches import Batch
    from brushwork.config import Config
    from brushwork.encoding import Data, Encoder
    from brushwork.runs import RunFolder
    from brushwork.values import Conditioning, Family, Method, Objective, ParameterGroup


@dataclass(frozen=True)
class Step:
    """What one optimizer step did. ``losses`` has one number for each sample of the effective batch."""

    index: int
    loss: float
    losses: tuple[float, ...]
    lr: float
    grad_norm: float
    seconds: float
    images_per_second: float
    memory_bytes: int
    validation_loss: float | None = None
    validation_error: float | None = None
    """The standard error of the validation loss over the held-out pictures."""
    warning: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    """What the objective measured beside the loss, means over the samples; ``validation_...``: over the held-out."""

    def to_json(self) -> dict[str, Any]:
        """Return what steps.jsonl holds: everything that is there, without the per-sample losses."""
        return {name: value for name, value in vars(self).items() if name != "losses" and value not in (None, {})}


def steps(config: Config, run: RunFolder | None = None) -> Iterator[Step]:
    """Train, yielding a ``Step`` after each optimizer step.

    With ``run``, it goes on from the run's newest checkpoint if there is one, and closing the iterator early writes
    one, so that nothing is lost.
    """
    return prepare(config).steps(run)


def prepare(config: Config, *, encode: bool = True) -> Trainer:
    """Load, attach, check and encode everything; nothing is written except caches.

    Without ``encode`` the trainer can be looked at but not run.

    Raises:
        UserError: Something in the configuration, the data or the base does not fit.
    """
    device = processes.join().device(config.train.device)
    memory.begin(device)
    dtype = resolve_dtype(config.train.mixed_precision, device)
    source = config.data.build()
    method: Method = config.method.build()
    objective: Objective = config.objective.build()
    looked = gate.verify(source)
    encoding.check_token(source, getattr(method, "token", None))
    agreement.check(source, config, method, objective)
    family = families.load(
        config.base, revision=config.revision, config=config.base_config,
        dtype=resolve_dtype("no", device) if method.updates_base else dtype,
        device=offload.where_to_load(config.train, method, device),
    )  # fmt: skip
    agreement.check_base(offload.place(family, config.train, device), config)
    config = encoding.at_resolution(config, family)
    config, source = prior.draw_data(config, family, source, draw=encode)
    drawn = prior.prepare(config, family, method, draw=encode)  # by the base as it is, before anything changes it
    objective_prepare = getattr(objective, "prepare", None)
    if objective_prepare is not None:
        objective_prepare(family)
    sized = getattr(family, "reads_geometry", False)
    data = prior.mix(encoding.read(source, config.data, config.seed, sized=sized), drawn)  # type: ignore[arg-type]
    found = gate.judge(looked, config, data, family)
    config, chosen = defaults.resolve(config, defaults.look(family, method, objective, data, config))
    method = config.method.build()  # which may have been given a rank or a rate
    groups = method.attach(execution.quantized(family, method, config.train, device), config.seed)
    offload.bring(groups, family, config.train, device)
    objective_attach = getattr(objective, "attach", None)
    if objective_attach is not None:
        objective_attach(config, family, method)
    if getattr(objective, "uses_base", False):
        with method.disabled():  # a method that lacks a setting for it says so now
            pass
    execution.arrange(family.denoiser, config.train)
    processes.join().same(configuration=config.model_dump_json(), base=family.fingerprint, data=data.fingerprint)
    trained = method.trains & {"text_encoder", "embeddings"}
    encoder = encoding.Encoder(config, family, data, text_is_trained=bool(trained), device=device)
    encoded = encoder.fill() if encode else {}
    release.text_encoders(family, config, method, encoder, filled=encode)
    return Trainer(config, family, method, objective, groups, encoder, device, dtype, encoded, drawn, chosen, found)


@dataclass
class Trainer:
    """Everything that one run holds in memory."""

    config: Config
    family: Family
    method: Method
    objective: Objective
    groups: list[ParameterGroup]
    encoder: Encoder
    device: str
    dtype: torch.dtype
    encoded: dict[str, int]
    drawn: list[prior.Drawn] = field(default_factory=list)
    chosen: list[defaults.Choice] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Build the optimizer, the moving average and the loss scaler around the trainable parameters."""
        import torch

        settings = self.config.train
        self.examples = batches.Examples(self.encoder.pictures, self.config.seed, settings.batch)
        self.named: dict[str, nn.Parameter] = {
            f"{group.name}.{name}": parameter for group in self.groups for name, parameter in group.parameters.items()
        }
        self.optimizer = optim.build(self.config.optimizer, self.groups, fused_backward=settings.fused_backward)
        trained, where = list(self.named.values()), settings.ema_device and resolve_device(settings.ema_device)
        self.average = optim.MovingAverage(trained, settings.ema_decay, where) if settings.use_ema else None
        self.scaler = torch.amp.GradScaler(self.device.split(":")[0], enabled=settings.mixed_precision == "fp16")
        assert settings.max_train_steps is not None, "brushwork.defaults chooses it"
        self.world = processes.join()
        self.step_size, self.total_steps = settings.effective_batch * self.world.size, settings.max_train_steps
        self.watch = Watch(limit=settings.max_train_seconds)
        self.best = best.Best(settings.keep_best is True, settings.early_stopping_patience)

    @property
    def data(self) -> Data:
        """The data being trained on."""
        return self.encoder.data

    def steps(self, run: RunFolder | None = None) -> Generator[Step, None, None]:
        """Yield the steps that are still to do; see ``brushwork.train.steps``."""
        saved = done = states.restore(self, run) if run else 0
        run = run if self.world.is_main else None  # which alone writes; the others wait for it in the next step
        if run and not done:
            self.draw(run, 0)
        first, stop = done * self.step_size, self.total_steps * self.step_size
        feed = batches.batches(self.examples, self.encoder, self.config, first, stop)
        try:
            for index in range(done + 1, self.total_steps + 1):
                if self.over:
                    break
                step = self.step(index, feed)
                done = index
                self.warnings += [step.warning] if step.warning else []
                if self._due(index, self.config.train.validation_steps):
                    step = self.validate(step, run)
                yield step
                # Only now: whoever writes the steps down has done so, and a kill cannot leave one that is in no log.
                if run and self._due(index, self.config.train.checkpointing_steps):
                    states.save(self, run, index)
                    saved = index
            if run:
                self.finish(run)
        except GeneratorExit:
            # Closed between two steps, so the state is whole (after an exception in the middle of one it may not be).
            if run and saved < done:
                states.save(self, run, done)
            raise

    @property
    def over(self) -> bool:
        """Whether it ends before the last step: the patience or the time is used up."""
        return self.best.over or self.watch.over

    def _due(self, index: int, every: int) -> bool:
        return index % every == 0 or index == self.total_steps or self.over

    def step(self, index: int, feed: Iterator[Batch]) -> Step:
        """Do optimizer step ``index`` (from 1) with the next micro-batches of ``feed``."""
        import torch

        began = time.perf_counter()
        factor = optim.lr_factor(self.config.optimizer, index - 1, self.total_steps)
        rate = optim.set_learning_rate(self.optimizer, factor)
        self._enter_training_mode()
        first = (index - 1) * self.step_size
        # The weights of the whole step: a micro-batch counts for what is in it, not for being one of several.
        total = sum(self.examples.sample(position).weight for position in range(first, first + self.step_size))
        losses: list[Tensor] = []
        tally = Tally()
        for part, batch in enumerate(itertools.islice(feed, self.config.train.gradient_accumulation_steps)):
            with torch.random.fork_rng(devices=[self.device] if self.device.startswith("cuda") else []):
                torch.manual_seed(derive(self.config.seed, "dropout", index, part * self.world.size + self.world.rank))
                per_sample = self.losses(batch, tally)
                loss = (per_sample * batch.weights).sum() / total
                self.scaler.scale(loss).backward()
            losses.append(per_sample.detach())
        parameters, size = list(self.named.values()), self.config.train.batch
        every = self.world.sum_gradients(parameters, torch.cat(losses).tolist(), size)
        self.scaler.unscale_(self.optimizer)
        norm = optim.clip_gradients(parameters, self.config.optimizer.max_grad_norm, self.optimizer)
        positions = range(first, first + self.step_size)
        # Under fp16 an infinite gradient is expected now and then: the scaler skips the step and lowers its scale.
        overflow_is_fine = self.scaler.is_enabled() and self.scaler.get_scale() > 1.0
        if not (overflow_is_fine and math.isinf(norm)):
            self.watch.stop_if_diverged(
                index, every, [self.examples.sample(each).name for each in positions], norm, rate
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(index)
        seconds = time.perf_counter() - began
        self.watch.spent += self.world.decide(seconds) if self.watch.limit else seconds
        return Step(
            index=index,
            loss=statistics.fmean(every),
            losses=tuple(every),
            lr=rate,
            grad_norm=norm,
            seconds=seconds,
            images_per_second=self.step_size / seconds,
            memory_bytes=memory.used(self.device),
            warning=self.watch.alarm(index, norm),
            numbers=tally.means(exchange=self.world.exchange),
        )

    def _enter_training_mode(self) -> None:
        """Switch dropout on in what is trained; drawing and validation switch it off."""
        trained = {group.name for group in self.groups}
        for name, module in {"denoiser": self.family.denoiser, **self.family.text_encoders}.items():
            # Asked first: walking through all modules takes 2 % of a small model's step.
            if name in trained and not module.training:
                module.train()

    def losses(self, batch: Batch, tally: Tally | None = None) -> Tensor:
        """Return the objective's loss of each sample, shape (B,); what it measured besides goes to ``tally``."""
        import torch

        task = Task(
            family=self.family,
            method=self.method,
            conditioning=self._conditioning(batch),
            captions=batch.captions,
            latents=batch.latents,
            noise=batch.noise,
            uniform=batch.uniform,
            seeds=batch.seeds,
            mask=batch.mask,
            preserved=batch.preserved,
            rejected=batch.rejected,
            numbers=(tally or Tally()).part(),
            averaged=self.averaged if self.average and torch.is_grad_enabled() else None,  # else it is in place
        )
        mixed = self.config.train.mixed_precision != "no"
        with torch.autocast(self.device.split(":")[0], dtype=self.dtype, enabled=mixed):
            return self.objective.losses(task)

    def _conditioning(self, batch: Batch) -> Conditioning:
        import torch

        if batch.conditioning is not None:
            return batch.conditioned(batch.conditioning).to(self.device, self.dtype)
        text_is_trained = bool(self.method.trains & {"text_encoder", "embeddings"})
        mixed = self.config.train.mixed_precision != "no"
        with (
            torch.set_grad_enabled(text_is_trained and torch.is_grad_enabled()),
            torch.autocast(self.device.split(":")[0], dtype=self.dtype, enabled=mixed),
        ):
            return batch.conditioned(self.family.encode_text(batch.captions))

    def validate(self, step: Step, run: RunFolder | None) -> Step:
        """Measure the held-out loss after a step, keep the state if it is the best so far, and draw the samples."""
        tally = Tally()
        if (held_out := self.held_out(tally)) is not None:
            numbers = {**step.numbers, **tally.means("validation_", self.world.exchange)}
            mean, error = held_out.mean, held_out.standard_error
            step = replace(step, validation_loss=mean, validation_error=error, numbers=numbers)
            if self.best.see(step.index, held_out) and run:
                self.write(best.folder(run, step.index))
        if run:
            self.draw(run, step.index)
        return step

    def held_out(self, tally: Tally | None = None) -> best.HeldOut | None:
        """Return the losses of the held-out pictures at fixed noise and timesteps; None without any."""
        import torch

        for module in (self.family.denoiser, *self.family.text_encoders.values()):
            module.eval()
        with torch.no_grad(), self.averaged():
            shared = self.world.share(batches.held_out_batches(self.encoder, self.config))
            losses = [self.losses(batch, tally).tolist() for batch in shared]
        every = self.world.gathered(losses)
        return best.by_picture(every, batches.held_out_pictures(self.encoder, self.config))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within this context the parameters are what is drawn with and saved: their average, if one is kept."""
        with optim.at_rest(self.optimizer):
            if self.average:
                self.average.swap()
            try:
                yield
            finally:
                if self.average:
                    self.average.swap()

    def draw(self, run: RunFolder, index: int) -> None:
        """Draw the fixed prompts at their fixed seeds into ``samples/<index>/``."""
        from brushwork import samples

        with self.averaged():
            samples.draw(run, self.config, self.family, index)

    def finish(self, run: RunFolder) -> None:
        """Write what the method made to ``weights/``."""
        best.conclude(self.best, run, self.write)

    def write(self, folder: Path) -> None:
        """Write what the method made to a folder, in one step."""
        with self.averaged(), replacing(folder) as temporary:
            temporary.mkdir()
            self.family.denoiser.eval()
            self.method.save(self.family, temporary)
            sampling.describe(temporary, getattr(self.config.objective, "sampling", None))
