"""The settings that are no plug-in's: how weights are updated, how the loop runs, what is drawn and measured.

``brushwork.config`` puts them together with the plug-ins'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

# YAML 1.1 reads a bare `no` as False; the field's word for "no mixed precision" is "no".
Quantization = Literal["none", "8bit", "nf4", "fp8"]
Precision = Annotated[Literal["no", "fp16", "bf16"], BeforeValidator(lambda value: "no" if value is False else value)]


class Settings(BaseModel):
    """A part of the configuration: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, coerce_numbers_to_str=True)


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn: an A1111 sampler's name, its steps, and the guidance (1: none)."""

    sampler: str
    steps: int
    guidance_scale: float

    @property
    def guided(self) -> bool:
        """Whether each step looks at the picture with the prompt and without it."""
        return self.guidance_scale not in (0, 1)

    def __str__(self) -> str:
        return f"{self.sampler}, {self.steps} step{'' if self.steps == 1 else 's'}, guidance {self.guidance_scale:g}"


UNREAD = {
    "adafactor": ("adam_beta1", "adam_beta2", "adam_epsilon"),
    "lion": ("adam_epsilon",),
    "schedulefree": ("lr_scheduler",),
}
"""Settings that an optimizer cannot honour."""
OF_SCHEDULES = {
    "lr_num_cycles": ("cosine_with_restarts",),
    "lr_power": ("polynomial",),
    "lr_end": ("linear", "polynomial"),
}
"""Settings that only these courses of the rate read."""
LEAST_PRODIGY_RATE = 0.1


class OptimizerConfig(Settings):
    """How the weights are updated."""

    type: Literal["adamw", "adamw8bit", "adafactor", "lion", "muon", "prodigy", "schedulefree"] = Field(
        "adamw",
        description="muon is for training from nothing. adamw8bit and lion need the extra bnb, prodigy and "
        "schedulefree those of their names.",
    )
    learning_rate: PositiveFloat | None = Field(
        None, description="The highest rate; the schedule multiplies it. null: by rule."
    )
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="How slowly the mean of the gradients forgets.")
    adam_beta2: float = Field(0.999, ge=0, lt=1, description="How slowly the mean of their squares forgets.")
    adam_weight_decay: NonNegativeFloat = Field(1e-2, description="Decoupled from the gradient (AdamW).")
    adam_epsilon: PositiveFloat = Field(1e-8, description="Keeps the division by small gradients finite.")
    lr_scheduler: Literal[
        "constant", "linear", "cosine", "cosine_with_restarts", "polynomial", "warmup_stable_decay"
    ] = Field("constant", description="The course of the rate after the warm-up.")
    lr_warmup_steps: NonNegativeInt | None = Field(
        None, description="Steps over which the rate rises from zero, in any schedule. null: by rule."
    )
    lr_num_cycles: PositiveInt = Field(1, description="How often cosine_with_restarts starts again.")
    lr_decay_steps: PositiveInt | None = Field(
        None, description="Over how many last steps warmup_stable_decay lets the rate fall to zero, in a line."
    )
    lr_power: PositiveFloat = Field(1.0, description="The exponent of polynomial.")
    lr_end: NonNegativeFloat = Field(0.0, description="The rate at which linear and polynomial end.")
    max_grad_norm: PositiveFloat | None = Field(
        1.0, description="Gradients are scaled down to this norm over all trained weights; null: never."
    )

    @model_validator(mode="after")
    def _honoured(self) -> OptimizerConfig:
        fields = type(self).model_fields
        unread = [name for name in UNREAD.get(self.type, ()) if getattr(self, name) != fields[name].default]
        if unread:
            message = f"type is {self.type}, which has no use for {' and '.join(unread)}; leave it out"
            raise ValueError(message)
        idle = [name for name, schedules in OF_SCHEDULES.items() if self.lr_scheduler not in schedules]
        idle = [name for name in idle if getattr(self, name) != fields[name].default]
        if idle:
            message = (
                f"lr_scheduler is {self.lr_scheduler}, which has no use for {' and '.join(idle)}; leave it out, or set "
                f"lr_scheduler={OF_SCHEDULES[idle[0]][-1]}"
            )
            raise ValueError(message)
        if self.learning_rate is not None and self.lr_end > self.learning_rate:
            message = f"lr_end is {self.lr_end:g} but learning_rate, the highest there is, only {self.learning_rate:g}"
            raise ValueError(message)
        if (self.lr_scheduler == "warmup_stable_decay") != (self.lr_decay_steps is not None):
            message = "lr_scheduler warmup_stable_decay and lr_decay_steps belong together; set both or neither"
            raise ValueError(message)
        if self.type == "prodigy" and self.learning_rate is not None and self.learning_rate < LEAST_PRODIGY_RATE:
            message = (
                f"type is prodigy, which finds the rate itself and multiplies it by learning_rate; "
                f"{self.learning_rate:g} would stop it. Set learning_rate=1"
            )
            raise ValueError(message)
        return self


class TrainConfig(Settings):
    """How long and how the loop runs."""

    max_train_steps: PositiveInt | None = Field(
        None, description="Optimizer steps; overrides num_train_epochs. null: by num_train_epochs, or by rule."
    )
    num_train_epochs: PositiveInt | None = Field(
        None, description="Passes over the data when max_train_steps is not given. null: by rule."
    )
    max_train_seconds: PositiveFloat | None = Field(
        None,
        description="Stop when the steps alone took so many seconds; for budgets, since no two runs then end at the "
        "same step. null: no limit.",
    )
    train_batch_size: PositiveInt | None = Field(
        None, description="Pictures in memory at once, in each process. null: by rule."
    )
    gradient_accumulation_steps: PositiveInt = Field(
        1, description="Such batches for each optimizer step, in each process: the effective batch is all of them."
    )
    mixed_precision: Precision = Field("no", description="The type of the computation; trained weights stay float32.")
    gradient_checkpointing: bool = Field(default=False, description="Less memory for about a third more time.")
    gradient_checkpointing_interval: PositiveInt = Field(
        1, description="Checkpoint every so-manieth block of the denoiser: between the two in memory and time."
    )
    fused_backward: bool = Field(
        default=False,
        description="Update each weight in the backward pass and free its gradient there; for adafactor.",
    )
    base_quantization: Quantization = Field(
        "none",
        description="The denoiser's frozen matrices in 8 or 4 bits beside a LoRA; 8bit and nf4 need the extra bnb.",
    )
    blocks_to_swap: NonNegativeInt = Field(
        0,
        description="So many of the denoiser's frozen blocks stay in main memory and come to the GPU one at a time; "
        "with gradient_checkpointing.",
    )
    channels_last: bool = Field(default=False, description="Lay convolutions out by pixel; often faster on a GPU.")
    compile: bool = Field(
        default=False, description="torch.compile the denoiser's repeated blocks; not for short runs."
    )
    use_ema: bool = Field(default=False, description="Keep and save a moving average of the trained weights.")
    ema_device: str | None = Field(None, description="Where the average lies, such as cpu; default: with the weights.")
    ema_decay: float = Field(0.9999, gt=0, lt=1, description="How slowly the average forgets; it warms up from less.")
    checkpointing_steps: PositiveInt = Field(500, description="Steps between two checkpoints to resume from.")
    checkpoints_total_limit: PositiveInt | None = Field(3, description="Older checkpoints go; null: all are kept.")
    validation_steps: PositiveInt = Field(100, description="Steps between two sample sheets and validation losses.")
    keep_best: bool | Literal["auto"] = Field(
        "auto",
        description="Save the state of the lowest validation loss if the last one's is higher by more than noise; "
        "auto: where 6 pictures or more are held out.",
    )
    early_stopping_patience: PositiveInt | None = Field(
        None,
        description="Stop after so many validations in a row that were worse than the best by more than noise; "
        "null: never.",
    )
    dataloader_num_workers: NonNegativeInt = Field(0, description="Processes that prepare batches; 0: the loop itself.")
    cache_latents: bool | Literal["auto"] = Field("auto", description="auto: whenever the crop is deterministic.")
    cache_text: bool | Literal["auto"] = Field("auto", description="auto: whenever the text side is frozen.")
    free_text_encoders: bool | Literal["auto"] = Field(
        "auto",
        description="Give back the text encoders' memory once all captions are in the cache; auto: where they are "
        "frozen, the method makes no whole model, and they take more than a gigabyte.",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps ...")
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = Field(
        (), description="Where else the curves go (each needs the extra of its name)."
    )

    @model_validator(mode="after")
    def _have_an_effect(self) -> TrainConfig:
        fields = type(self).model_fields
        idle = [name for name in ("ema_device", "ema_decay") if getattr(self, name) != fields[name].default]
        if idle and not self.use_ema:
            message = f"{' and '.join(idle)} is set but use_ema is false; set train.use_ema=true or leave it out"
            raise ValueError(message)
        if self.gradient_checkpointing_interval != 1 and not self.gradient_checkpointing:
            message = "gradient_checkpointing_interval is set but gradient_checkpointing is false; set it to true"
            raise ValueError(message)
        if self.blocks_to_swap and not (self.gradient_checkpointing and self.gradient_checkpointing_interval == 1):
            message = (
                "blocks_to_swap is set but not every block is checkpointed, so all of them would stay on the GPU from "
                "the forward to the backward pass; set gradient_checkpointing=true"
            )
            raise ValueError(message)
        if self.blocks_to_swap and (self.compile or self.base_quantization in ("8bit", "nf4")):
            other = "compile" if self.compile else f"base_quantization={self.base_quantization}"
            message = f"blocks_to_swap moves ordinary weights, which {other} has not; leave one of them out"
            raise ValueError(message)
        if self.early_stopping_patience is not None and self.keep_best is False:
            message = "early_stopping_patience is set but keep_best is false; leave one of them out"
            raise ValueError(message)
        return self

    @property
    def batch(self) -> int:
        """The pictures in memory at once, which are given or chosen before anything trains."""
        assert self.train_batch_size is not None, "brushwork.defaults chooses it"
        return self.train_batch_size

    @property
    def effective_batch(self) -> int:
        """The pictures of one optimizer step."""
        return self.batch * self.gradient_accumulation_steps


class ValidationConfig(Settings):
    """What is drawn and measured while training and for the report."""

    prompts: str | tuple[str, ...] = Field(
        (), description="Prompts, a text file with one prompt a line, or the name of an embedded list."
    )
    content_prompts: str | tuple[str, ...] = Field(
        (),
        description="The same, one by one, without the words of the style or the token: drawn as well, to see what "
        "leaks into them, and what CLIP similarity is measured against.",
    )
    control_prompts: str | tuple[str, ...] = Field((), description="Prompts that have nothing to do with the data.")
    images_per_prompt: PositiveInt = Field(4, description="Pictures of each prompt in the report, seeds counting up.")
    samples_during_training: NonNegativeInt = Field(4, description="Prompts drawn every validation_steps; 0: none.")
    num_inference_steps: PositiveInt = Field(20, description="The sampler's steps.")
    guidance_scale: NonNegativeFloat = Field(5.0, description="Classifier-free guidance; 1 and below: none.")
    sampler: str = Field("DPM++ 2M", description="By its name in `brushwork generate --sampler`.")
    negative_prompt: str = Field("", description="What the pictures should not show.")
    seed: NonNegativeInt = Field(0, description="The first picture's seed, the same for base and tuned.")
    loss_images: PositiveInt = Field(16, description="How many held-out images the validation loss looks at, at most.")
    loss_timesteps: PositiveInt = Field(4, description="How many evenly spaced timesteps each is noised to.")
    judge: str = Field(
        "auto", description="A CLIP or SigLIP model: hub id or folder; auto: mini-clip for mini, else ViT-B/32."
    )
    extractors: tuple[str, ...] = Field(
        (),
        description="Further networks that measure, as KIND:WHICH: clip, siglip, dinov2, inception, classifier, "
        "pickscore, lpips, pixels, captioner, external.",
    )
    captioner: str = Field(
        "auto",
        description="What describes the pictures: hub id or folder; auto: mini-captioner for mini; none: nothing.",
    )
    style_template: str | None = Field(
        None,
        description='The style in words around a prompt, such as "{prompt}, in ink"; null: as the captions have it.',
    )
    style_words: tuple[str, ...] = Field(
        (), description="Words that show the style in a caption; empty: found in the training data."
    )
    extractor_seconds: PositiveFloat = Field(
        300.0, description="How long an external extractor may take for each answer."
    )


class PreserveConfig(Settings):
    """Pictures of the base's own drawing, trained on beside the data so that it forgets less."""

    prompts: str | tuple[str, ...] = Field("neutral", description="Of what: prompts, a text file, or an embedded list.")
    num_images: PositiveInt = Field(64, description="So many, drawn once and kept in the cache.")
    weight: PositiveFloat = Field(1.0, description="How much such a picture counts beside one of the data.")
