"""The model card of a run: what it is, from what, how to use it, what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from brushwork import embeddings, peft_files, samplers, wording
from brushwork.runs import replacing

if TYPE_CHECKING:
    from brushwork.runs import RunFolder
    from brushwork.settings import Sampling

LOADERS = {
    "learned_embeds.safetensors": "load_textual_inversion",
    "pytorch_lora_weights.safetensors": "load_lora_weights",
}
"""What is laid on the base, and how diffusers does it; without either the run made a whole model."""

WORTH_SAYING = 0.02
"""Of a phase's memory."""

PEFT = f"""
import json

from peft import get_peft_config, inject_adapter_in_model, set_peft_model_state_dict
from safetensors import safe_open

with safe_open("weights/{peft_files.NAME}", framework="pt") as file:  # diffusers' own loader reads LoRA only
    for part, settings in json.loads(file.metadata()["{peft_files.HEADER}"]).items():
        keys = [key for key in file.keys() if key.startswith(part + ".")]
        module = inject_adapter_in_model(get_peft_config(settings), getattr(pipeline, part))
        set_peft_model_state_dict(module, {{key[len(part) + 1 :]: file.get_tensor(key) for key in keys}})"""
"""How plain peft loads what is no LoRA."""


def write(run: RunFolder) -> None:
    """Write ``README.md`` with the YAML header that the Hugging Face hub reads."""
    with replacing(run.path / "README.md") as temporary:
        temporary.write_text(text(run), "utf-8")


def text(run: RunFolder) -> str:
    """Return the card's Markdown."""
    config, record = run.config, run.record
    data: Any = config.data
    tags = ["text-to-image", "diffusers", "brushwork", config.method.type]
    header = [
        "---",
        f"base_model: {config.base}",
        "library_name: diffusers",
        "tags:",
        *(f"- {tag}" for tag in tags),
        "---",
    ]
    logged = run.steps()
    done = logged[-1]["index"] if logged else record["total_steps"]
    seen = done * (record.get("effective_batch") or config.train.effective_batch)
    body = [
        f"# {run.path.name}",
        (
            f"`{config.base}` fine-tuned with **{wording.method_name(config)}** on `{data.path}` "
            f"({record['data']['count']} pictures, {record['data']['held_out']} of them held out) for {done} steps, "
            f"{seen} pictures seen.{_best(record)}"
        ),
        f"The licence of the base model `{config.base}` and the rights to the pictures apply to this model too.",
        "## Use",
        _usage(run),
        "## What it needs",
        _needs(run),
        "## What was measured",
        _metrics(run),
        "## Reproduce",
        (
            f"```bash\nbrushwork train config.yaml\n```\nSeed {record['seed']}, data {record['data']['fingerprint']}, "
            f"base {record['base']['hash']}; versions are in `run.json`."
        ),
    ]
    return "\n".join(header) + "\n\n" + "\n\n".join(body) + "\n"


def _best(record: dict[str, Any]) -> str:
    """Say which state of the run the weights are, where it is not the last one."""
    best = record.get("best") or {}
    return f" {best['told']}" if best.get("taken") else ""


def _usage(run: RunFolder) -> str:
    prompt = (run.config.validation.prompts or ("...",))[0]
    base = run.config.base
    files = [name for name in LOADERS if (run.weights / name).is_file()]
    lines = [line for name in files for line in _loading(run, name)]
    load = "\n".join([f'pipeline = DiffusionPipeline.from_pretrained("{base if files else "weights"}")', *lines])
    note = (
        "\n(`mini` is embedded in brushwork: its folder is `brushwork/assets/mini`.)"
        if base == "mini" and files
        else ""
    )
    load += _schedule(run) if files else ""
    if (run.weights / peft_files.NAME).is_file():
        load = f'pipeline = DiffusionPipeline.from_pretrained("{base}")\n{PEFT}{_schedule(run)}'
    scheduler, asked = _few_steps(run)
    return (
        f'```bash\nbrushwork generate {run.path.name} "{prompt}"\n```\n\n'
        f"```python\nfrom diffusers import DiffusionPipeline\n\n{load}{scheduler}\n"
        f'image = pipeline("{prompt}"{asked}).images[0]\n```{note}'
    )


def _loading(run: RunFolder, name: str) -> list[str]:
    """Return the lines that lay a file on the pipeline; a word of several text encoders is loaded for each."""
    keys = embeddings.keys(run.weights / name) if name == embeddings.WEIGHT_NAME else []
    if not keys:
        return [f'pipeline.{LOADERS[name]}("weights", weight_name="{name}")']
    word = getattr(run.config.method, "token", "")
    lines = ["from safetensors.torch import load_file\n", f'rows = load_file("weights/{name}")']
    for key in keys:
        part = embeddings.KEYS[key]
        there = f"text_encoder=pipeline.{part}, tokenizer=pipeline.{part.replace('text_encoder', 'tokenizer')}"
        lines.append(f'pipeline.load_textual_inversion(\n    rows["{key}"], token="{word}", {there}\n)')
    return lines


def _needs(run: RunFolder) -> str:
    """Say what training took and was forecast to take, and what drawing needs."""
    record = run.record
    seconds, peak = record.get("seconds", {}).get("train"), record.get("peak_memory_bytes")
    device = record.get("device") or {}
    kind = device.get("type", "") if isinstance(device, dict) else str(device)
    took = [wording.size(peak) + " of memory at its peak"] if peak else []
    took += [wording.duration(seconds)] if seconds else []
    lines = [f"- Training took {' and '.join(took)} on {kind or 'this machine'}."] if took else []
    said = record.get("forecast")
    if said:
        lines.append(
            f"- Forecast from the model's own shapes: {wording.size(said['peak_bytes'])} at most, while "
            f"{said['peak_phase']}."
        )
        lines += [
            f"  - {name}: {wording.size(sum(parts.values()))}{_parts(parts)}" for name, parts in said["phases"].items()
        ]
        disk = [f"{name} {wording.size(count)}" for name, count in said["disk"].items() if count]
        lines.append(f"- Disk: {', '.join(disk)}.")
    made = (record.get("artefact") or {}).get("bytes")
    if made:
        lines.append(f"- What it made is {wording.size(made)}.")
    return "\n".join(lines) or "Nothing was recorded."


def _parts(parts: dict[str, int]) -> str:
    """Name the parts of a phase that count, the largest first."""
    whole = sum(parts.values())
    large = sorted((each for each in parts.items() if each[1] > whole * WORTH_SAYING), key=lambda each: -each[1])
    return f" ({', '.join(f'{name} {wording.size(count)}' for name, count in large)})" if large else ""


def _schedule(run: RunFolder) -> str:
    """Return the line that gives the base the noise schedule of the training; a whole model brings it along."""
    objective = getattr(run.config.objective, "denoising", run.config.objective)
    if not getattr(objective, "rescale_betas_zero_snr", False):
        return ""
    return (
        "\n# trained down to pure noise (zero terminal SNR), so it must be drawn with that schedule\n"
        "pipeline.scheduler = pipeline.scheduler.from_config(\n"
        '    pipeline.scheduler.config, rescale_betas_zero_snr=True, timestep_spacing="trailing"\n)'
    )


def _few_steps(run: RunFolder) -> tuple[str, str]:
    """Return the lines that give a pipeline the sampler that the model was made for, and what to call it with."""
    wanted: Sampling | None = getattr(run.config.objective, "sampling", None)
    if wanted is None:
        return "", ""
    name = samplers.resolve(wanted.sampler).scheduler
    lines = (
        f"\n\nfrom diffusers import {name}  # made for {wanted}\n\n"
        f"pipeline.scheduler = {name}.from_config(pipeline.scheduler.config)"
    )
    return lines, f", num_inference_steps={wanted.steps}, guidance_scale={wanted.guidance_scale:g}"


def _metrics(run: RunFolder) -> str:
    rows = ["| metric | prompts | of | value | 95 % interval | n | by |", "|---|---|---|---|---|---|---|"]
    for metric in run.metrics:
        low, high = metric.get("interval") or (None, None)
        between = "" if low is None or high is None else f"{low:.4f} to {high:.4f}"
        value = "" if metric["value"] is None else f"{metric['value']:.4f}"
        judge = ", ".join(each for each in (metric.get("encoder"), metric.get("caveat")) if each)
        of = metric.get("of") or ""
        of += " (base as usual)" if metric.get("against") == "usual" else ""
        cells = (metric["name"], metric.get("prompt_set") or "", of, value, between, metric["n"], judge)
        rows.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(rows) if run.metrics else "Nothing was measured."
