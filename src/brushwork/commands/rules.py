"""What each flag of diffusers' training scripts is here, or why it is nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork.commands.scripts import SCRIPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from brushwork.commands.reading import Command
    from brushwork.commands.translate import Translation

KEYS: Mapping[str, str] = {
    "pretrained_model_name_or_path": "base",
    "revision": "revision",
    "rank": "method.rank",
    "lora_dropout": "method.dropout",
    "train_text_encoder": "method.train_text_encoder",
    "placeholder_token": "method.token",
    "initializer_token": "method.initial_word",
    "num_vectors": "method.num_vectors",
    "dataset_name": "data.path",
    "train_data_dir": "data.path",
    "instance_data_dir": "data.path",
    "dataset_config_name": "data.subset",
    "image_column": "data.image_column",
    "caption_column": "data.caption_column",
    "instance_prompt": "data.instance_prompt",
    "class_prompt": "data.class_prompt",
    "class_data_dir": "data.class_path",
    "num_class_images": "data.num_class_images",
    "prior_loss_weight": "data.prior_loss_weight",
    "learnable_property": "data.templates",
    "resolution": "data.resolution",
    "center_crop": "data.center_crop",
    "random_flip": "data.random_flip",
    "snr_gamma": "objective.snr_gamma",
    "noise_offset": "objective.noise_offset",
    "input_perturbation": "objective.input_perturbation",
    "prediction_type": "objective.prediction_type",
    "learning_rate": "optimizer.learning_rate",
    "lr_scheduler": "optimizer.lr_scheduler",
    "lr_warmup_steps": "optimizer.lr_warmup_steps",
    "lr_num_cycles": "optimizer.lr_num_cycles",
    "lr_power": "optimizer.lr_power",
    "adam_beta1": "optimizer.adam_beta1",
    "adam_beta2": "optimizer.adam_beta2",
    "adam_weight_decay": "optimizer.adam_weight_decay",
    "adam_epsilon": "optimizer.adam_epsilon",
    "max_grad_norm": "optimizer.max_grad_norm",
    "max_train_steps": "train.max_train_steps",
    "num_train_epochs": "train.num_train_epochs",
    "train_batch_size": "train.train_batch_size",
    "gradient_accumulation_steps": "train.gradient_accumulation_steps",
    "gradient_checkpointing": "train.gradient_checkpointing",
    "mixed_precision": "train.mixed_precision",
    "use_ema": "train.use_ema",
    "checkpointing_steps": "train.checkpointing_steps",
    "validation_steps": "train.validation_steps",
    "dataloader_num_workers": "train.dataloader_num_workers",
    "num_validation_images": "validation.images_per_prompt",
    "validation_prompt": "validation.prompts",
    "validation_prompts": "validation.prompts",
    "seed": "seed",
}
MISSING: Mapping[str, str] = {
    "allow_tf32": "a matter of speed; torch.backends.cuda.matmul.allow_tf32 decides it",
    "cache_dir": "HF_HOME says where the hub's files lie",
    "enable_xformers_memory_efficient_attention": "torch's own attention does the same",
    "foreach_ema": "a matter of speed",
    "hub_model_id": "afterwards: brushwork push RUN owner/name",
    "hub_token": "the token comes from HF_TOKEN; it is not written anywhere",
    "local_rank": "launchers say it by themselves",
    "logging_dir": "the run's folder has its logs",
    "no_safe_serialization": "weights are always safetensors",
    "pre_compute_text_embeddings": "texts are always encoded once (train.cache_text)",
    "prior_generation_precision": "class images are drawn in float32, or as train.mixed_precision says",
    "push_to_hub": "never automatic; afterwards: brushwork push RUN owner/name",
    "resume_from_checkpoint": "brushwork train --resume --out RUN goes on with a run",
    "sample_batch_size": "how many class images are drawn at once is chosen here",
    "save_as_full_pipeline": "brushwork export writes the word for any program",
    "save_steps": "train.checkpointing_steps keeps the state to resume from",
    "set_grads_to_none": "always so",
    "skip_save_text_encoder": "a text encoder that was not trained is saved with the pipeline",
    "tracker_project_name": "the run's own name is used",
    "validation_epochs": "here it is counted in steps: train.validation_steps",
}
"""Flags without a counterpart that would change what is learnt."""
DIFFERS: Mapping[str, str] = {
    "class_labels_conditioning": "it is for bases with class labels (DeepFloyd IF), which are no family here",
    "dream_training": "DREAM has no counterpart here",
    "image_interpolation_mode": "pictures are resized with Lanczos here",
    "max_train_samples": "it has no counterpart; make a folder or a data set of so many pictures",
    "non_ema_revision": "the weights of base and revision are trained",
    "text_encoder_use_attention_mask": "the mask is used where the text encoder's config says so",
    "tokenizer_max_length": "texts are as long as the base's tokenizer has them",
    "tokenizer_name": "the base's own tokenizer is used",
    "validation_images": "it is for bases that enlarge pictures, which are no family here",
    "variant": "the base's plain weights are read, not those of this variant",
}
"""Flags whose effect there is not to be had here."""
PRIOR = "class images are only used with --with_prior_preservation"


def _given(*flags: str) -> Callable[[Command], bool]:
    return lambda command: any(command.given.get(flag) for flag in flags)


def _schedule(*names: str) -> Callable[[Command], bool]:
    return lambda command: command.value("lr_scheduler") in names


def _has_prompt(command: Command) -> bool:
    return bool(command.given.get("validation_prompt") or command.given.get("validation_prompts"))


NEEDS: Mapping[str, tuple[Callable[[Command], bool], str]] = {
    "class_prompt": (_given("with_prior_preservation"), PRIOR),
    "class_data_dir": (_given("with_prior_preservation"), PRIOR),
    "num_class_images": (_given("with_prior_preservation"), PRIOR),
    "prior_loss_weight": (_given("with_prior_preservation"), PRIOR),
    "prior_generation_precision": (_given("with_prior_preservation"), PRIOR),
    "sample_batch_size": (_given("with_prior_preservation"), PRIOR),
    "lr_warmup_steps": (
        lambda command: command.value("lr_scheduler") != "constant",
        "the constant schedule has no warm-up; constant_with_warmup has",
    ),
    "lr_num_cycles": (_schedule("cosine_with_restarts"), "only cosine_with_restarts has cycles"),
    "lr_power": (_schedule("polynomial"), "only polynomial has a power"),
    "num_train_epochs": (
        lambda command: command.value("max_train_steps") is None,
        "max_train_steps decides how long it runs",
    ),
    "repeats": (lambda _: False, "it only makes an epoch longer, and max_train_steps decides how long it runs"),
    "train_data_dir": (lambda command: not command.given.get("dataset_name"), "dataset_name comes first"),
    "dataset_config_name": (_given("dataset_name"), "only a data set of the hub has configurations"),
    "num_validation_images": (_has_prompt, "nothing is drawn without a validation prompt"),
    "validation_steps": (_has_prompt, "nothing is drawn without a validation prompt"),
    "validation_epochs": (_has_prompt, "nothing is drawn without a validation prompt"),
    "validation_scheduler": (_has_prompt, "nothing is drawn without a validation prompt"),
    "dream_detail_preservation": (_given("dream_training"), "only --dream_training reads it"),
    "foreach_ema": (_given("use_ema"), "there is no average without --use_ema"),
    "offload_ema": (_given("use_ema"), "there is no average without --use_ema"),
    "non_ema_revision": (_given("use_ema"), "only --use_ema reads it"),
    "hub_model_id": (_given("push_to_hub"), "nothing is pushed without --push_to_hub"),
    "hub_token": (_given("push_to_hub"), "nothing is pushed without --push_to_hub"),
}
"""Flags that the script only reads as long as others say so, and why not otherwise."""
SAMPLERS = {"DPMSolverMultistepScheduler": "DPM++ 2M", "DDPMScheduler": "DDPM"}
TRACKERS = {"tensorboard": ["tensorboard"], "wandb": ["wandb"], "all": ["tensorboard", "wandb"]}


def finish(command: Command, tree: dict[str, Any], found: Translation) -> None:
    """Fill in what several flags decide together, and what the scripts do without being told."""
    _data(command, tree, found)
    _optimizer(command, tree, found)
    _loop(command, tree, found)
    _drawing(command, tree, found)
    if command.given.get("seed") is None:
        found.differs.append("--seed: none was given, so the script draws one; here it is 0")


def _data(command: Command, tree: dict[str, Any], found: Translation) -> None:
    data = tree["data"]
    for name in ("image_column", "caption_column"):  # of a folder or a data set, unless they were asked for, any
        if name in SCRIPTS[command.script] and name not in command.given:
            data.pop(name, None)
    if "path" not in data:
        found.to_fill_in.append("data.path: the command names no data")
        data["path"] = "PICTURES"
    if command.given.get("with_prior_preservation"):
        found.differs.append(
            f"--train_batch_size: the script adds a class image to each of the {command.value('train_batch_size')} "
            f"pictures of a batch; here class images are samples like the others, so for as many seen double it"
        )
        if "class_prompt" not in data:
            found.to_fill_in.append("data.class_prompt: the script stops without one")
    if command.given.get("offset_noise"):
        tree["objective"]["noise_offset"] = 0.1
    if command.script == "textual_inversion.py":
        data["random_flip"] = True  # the script's own, which no flag switches off
        if not command.value("center_crop"):
            found.differs.append(
                "--center_crop: without it the script squeezes pictures to a square; here it crops them"
            )
        token = tree["method"]["token"]
        if token != token.lower():
            tree["method"]["token"] = token.lower()
            found.differs.append(f"--placeholder_token: words are in lower case here: {token.lower()}")


def _optimizer(command: Command, tree: dict[str, Any], found: Translation) -> None:
    optimizer = tree["optimizer"]
    if command.given.get("use_8bit_adam"):
        optimizer["type"] = "adamw8bit"
    schedule = command.value("lr_scheduler")
    if schedule == "constant":
        optimizer["lr_warmup_steps"] = 0
    if schedule == "constant_with_warmup":
        optimizer["lr_scheduler"] = "constant"
    if schedule == "polynomial":
        optimizer["lr_end"] = 1e-7
    if not command.has("max_grad_norm"):
        optimizer["max_grad_norm"] = None  # the script never clips
    processes = int(command.launcher.get("num_processes", 1))
    if command.given.get("scale_lr"):
        batch = command.value("train_batch_size") * command.value("gradient_accumulation_steps") * processes
        optimizer["learning_rate"] = command.value("learning_rate") * batch
    if processes > 1:
        found.to_fill_in.append(f"run it in {processes} processes: brushwork train --processes {processes} RECIPE.yaml")


def _loop(command: Command, tree: dict[str, Any], found: Translation) -> None:
    train = tree["train"]
    train["checkpoints_total_limit"] = command.value("checkpoints_total_limit")  # none: the script keeps all
    train["keep_best"] = False
    train.setdefault("mixed_precision", command.launcher.get("mixed_precision") or "no")
    if command.given.get("offload_ema") and command.given.get("use_ema"):
        train["ema_device"] = "cpu"
    reported = command.given.get("report_to")
    if reported in TRACKERS:
        train["trackers"] = TRACKERS[reported]
    elif reported is not None:
        found.missing_here.append(
            f"--report_to: {reported} is no tracker here; steps.jsonl and the page have the curves"
        )


def _drawing(command: Command, tree: dict[str, Any], found: Translation) -> None:
    validation = tree["validation"]
    prompts = validation.get("prompts")
    if isinstance(prompts, str):
        validation["prompts"] = [prompts]
    if prompts and command.has("validation_scheduler"):
        validation["sampler"] = SAMPLERS.get(command.value("validation_scheduler"), "DPM++ 2M")
    if not prompts:
        found.missing_here.append("(no validation prompt): brushwork draws captions of the data instead")
    tree["data"].setdefault("validation_split", 0)  # the scripts train on all pictures
