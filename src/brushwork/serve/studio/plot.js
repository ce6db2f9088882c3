// The X/Y/Z plot of the Generate panel: up to three axes with their values make a grid out of the panel's settings.

import { cells } from "./files.js";
import { button, field, h, select } from "./dom.js";

const NUMBERS = { steps: "8, 20, 40", guidance_scale: "3, 5, 8", seed: "1-4", adapter_weight: "0, 0.5, 1", clip_skip: "1-2" };
const RANGE = /^(-?[\d.]+)\s*-\s*(-?[\d.]+)\s*(?:\(\s*\+?(-?[\d.]+)\s*\)|\[\s*(\d+)\s*\])?$/;
const MOST = 50;

export function plot(models, adapters, samplers, vaes) {
  const names = (entries) => entries.map((each) => each.name);
  const lists = { model: names(models), sampler: samplers.samplers, adapter: ["none", ...names(adapters)], vae: names(vaes) };
  const titles = {
    "": "nothing", steps: "Steps", guidance_scale: "CFG scale", sampler: "Sampler", seed: "Seed", prompt: "Prompt S/R",
    model: "Model", adapter: "Adapter", adapter_weight: "Adapter weight", size: "Size", clip_skip: "Clip skip", vae: "VAE",
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
    h("p", { className: "note" }, "A picture for every combination, in a labelled grid. Values are separated by commas; numbers also as 1-5, 10-50 (+10) or 1-9 [5]."),
    rows.map((each) => each.element));
  return {
    element,
    // The fields may have been filled from what this browser remembers.
    ready: () => { rows.forEach((each) => each.chosen()); element.open = rows.some((each) => each.axis.value); },
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
  const whole = ["steps", "seed", "clip_skip"].includes(name);
  return Array.from({ length: many }, (_, place) => {
    const value = first + place * step;
    return whole ? Math.round(value) : Number(value.toFixed(6));
  });
}
