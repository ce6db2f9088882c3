// The X/Y/Z plot of the Generate panel: up to three axes with their values make a grid out of the panel's settings.

import { cells } from "./files.js";
import { button, field, h, select } from "./dom.js";

const NUMBERS = {
  steps: "8, 20, 40", guidance_scale: "3, 5, 8", seed: "1-4", adapter_weight: "0, 0.5, 1", clip_skip: "1-2", strength: "0.3, 0.6, 0.9",
  noise_multiplier: "0.8-1.2 [3]", variation_seed: "1-4", variation_strength: "0, 0.1, 0.2", hires_steps: "5, 10", hires_strength: "0.4, 0.7",
  mask_strength: "0, 0.5, 1",
};
const WHOLE = ["steps", "seed", "clip_skip", "variation_seed", "hires_steps"];
// What a sheet's infotext calls them.
const A1111 = {
  "Checkpoint name": "model", "Prompt S/R": "prompt", Seed: "seed", Steps: "steps", "CFG Scale": "guidance_scale", Sampler: "sampler", Size: "size",
  Adapter: "adapter", "Adapter weight": "adapter_weight", "Clip skip": "clip_skip", VAE: "vae", "Schedule type": "schedule", Denoising: "strength",
  "Initial noise multiplier": "noise_multiplier", "Var. seed": "variation_seed", "Var. strength": "variation_strength",
  "Hires steps": "hires_steps", "Hires sampler": "hires_sampler", "Hires upscaler": "hires_upscaler",
  "Cond. Image Mask Weight": "mask_strength",
};
const RANGE = /^(-?[\d.]+)\s*-\s*(-?[\d.]+)\s*(?:\(\s*\+?(-?[\d.]+)\s*\)|\[\s*(\d+)\s*\])?$/;
const MOST = 50;

export function plot(models, adapters, samplers, vaes) {
  const names = (entries) => entries.map((each) => each.name);
  const lists = { model: names(models), sampler: samplers.samplers, schedule: samplers.schedules,
    adapter: ["none", ...names(adapters)], vae: ["none", ...names(vaes)], hires_sampler: samplers.samplers, hires_upscaler: ["Latent", "Lanczos", "Nearest"] };
  const titles = {
    "": "nothing", steps: "Steps", guidance_scale: "CFG scale", sampler: "Sampler", seed: "Seed", prompt: "Prompt S/R",
    model: "Model", adapter: "Adapter", adapter_weight: "Adapter weight", size: "Size", clip_skip: "Clip skip", vae: "VAE", schedule: "Schedule",
    variation_seed: "Variation seed", variation_strength: "Variation strength", strength: "Strength (from a picture)",
    noise_multiplier: "Noise multiplier (from a picture)", hires_steps: "Second pass: steps", hires_strength: "Second pass: strength",
    hires_upscaler: "Second pass: upscaler", hires_sampler: "Second pass: sampler",
    mask_strength: "Mask strength (models for inpainting)",
  };
  const hints = { ...NUMBERS, size: "64x64, 96x64", prompt: "what is replaced, instead, or instead",
    ...Object.fromEntries(Object.entries(lists).map(([name, values]) => [name, values.slice(0, 2).join(", ")])) };
  const rows = ["x", "y", "z"].map((letter) => {
    const axis = select(Object.entries(titles), "", { name: `${letter}_axis` });
    const values = h("input", { name: `${letter}_values`, disabled: true });
    const all = button("All", () => { values.value = lists[axis.value].map(quoted).join(", "); values.dispatchEvent(new Event("input", { bubbles: true })); }, { hidden: true });
    const chosen = () => {
      values.disabled = !axis.value;
      values.placeholder = hints[axis.value] ?? "";
      all.hidden = !(axis.value in lists);
    };
    axis.addEventListener("change", chosen);
    return { axis, values, chosen, element: h("div", { className: "axis" }, field(letter.toUpperCase(), axis), field("Values", values), all) };
  });
  const element = h("details", { className: "more" }, h("summary", {}, "X/Y/Z plot"),
    h("p", { className: "note" }, "A picture for every combination, in a labelled grid, from text or from a picture. Values are separated by commas; numbers also as 1-5, 10-50 (+10) or 1-9 [5]."),
    rows.map((each) => each.element));
  return {
    element,
    // The fields may have been filled from what this browser remembers.
    ready: () => { rows.forEach((each) => each.chosen()); element.open = rows.some((each) => each.axis.value); },
    // The axes of a sheet's infotext; of another picture's there are none.
    fill(fields) {
      rows.forEach((each, place) => {
        const letter = "XYZ"[place];
        const named = fields.Script === "X/Y/Z plot" ? A1111[fields[`${letter} Type`]] ?? "" : "";
        each.axis.value = named === "strength" && fields["Hires upscale"] ? "hires_strength" : named;
        each.values.value = named ? fields[`${letter} Values`] ?? "" : "";
        each.chosen();
      });
      element.open = rows.some((each) => each.axis.value);
    },
    axes: () => rows.filter((each) => each.axis.value).map((each) => ({ name: each.axis.value, values: values(each.axis.value, each.values.value) })),
  };
}

const quoted = (text) => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

// The values of an axis as they were typed.
export function values(name, text) {
  const typed = (cells(text)[0] ?? []).map((each) => each.trim()).filter(Boolean);
  if (!typed.length) throw new Error(`${name.replaceAll("_", " ")}: write the values of this axis, separated by commas`);
  const found = name in NUMBERS ? typed.flatMap((each) => range(name, each)) : typed;
  if (found.length > MOST) throw new Error(`${name.replaceAll("_", " ")}: ${found.length} values are more than ${MOST}`);
  return found;
}

function range(name, text) {
  const found = RANGE.exec(text);
  if (!found) {
    if (Number.isNaN(Number(text))) throw new Error(`${name.replaceAll("_", " ")}: ${text} is no number`);
    return [Number(text)];
  }
  const [first, last] = [Number(found[1]), Number(found[2])];
  const count = found[4] ? Number(found[4]) : null;
  const step = count ? (last - first) / Math.max(1, count - 1) : Math.abs(Number(found[3] ?? 1)) * Math.sign(last - first || 1);
  const many = count ?? Math.floor((last - first) / step + 1e-9) + 1;
  if (!(many > 0 && many <= MOST)) throw new Error(`${name.replaceAll("_", " ")}: ${text} comes to more than ${MOST} values, or to none`);
  const whole = WHOLE.includes(name);
  return Array.from({ length: many }, (_, place) => {
    const value = first + place * step;
    return whole ? Math.trunc(value + 1e-9) : Number(value.toFixed(6));
  });
}
