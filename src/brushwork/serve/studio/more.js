// More of the Generate panel: token count, variation, tiling, the second pass, and what a mask is for.

import { send, upload } from "./api.js";
import { field, h, number, select } from "./dom.js";

const WAIT = 400;  // milliseconds without typing before the tokens are counted

const CONTENTS = ["original", "fill", "latent noise", "latent nothing"];

export function more(samplers, vaes) {
  return h("details", { className: "more" }, h("summary", {}, "More"),
    h("div", { className: "fields" },
      field("Variation seed (-1: random)", number(-1, { name: "variation_seed", min: -1 })),
      field("Variation strength", number(0, { name: "variation_strength", min: 0, max: 1, step: "any" })),
      field("Seed of a picture sized", h("input", { name: "seed_resize", placeholder: "this size", pattern: "\\d+x\\d+", title: "Width x height, as 512x512: its noise is the middle of this picture's" })),
      field("Clip skip", number(1, { name: "clip_skip", min: 1, max: 12 })),
      field("VAE", select([["", "the model's own"], ...vaes.map((each) => each.name)], "", { name: "vae" })),
      field("Tiling", select([["", "no"], ["yes", "no seam"]], "", { name: "tiling" })),
      field("Noise multiplier (from a picture)", number(1, { name: "noise_multiplier", min: 0, max: 1.5, step: "any" })),
      field("Mask strength (models for inpainting)", number(1, { name: "mask_strength", min: 0, max: 1, step: "any" }))),
    h("fieldset", {}, h("legend", {}, "Second pass, larger (hires fix)"),
      h("div", { className: "fields" },
        field("Larger by", number("", { name: "hires_scale", min: 1, max: 8, step: "any", placeholder: "none" })),
        field("Or to a width", number("", { name: "hires_width", min: 8, step: 8 })),
        field("Or to a height", number("", { name: "hires_height", min: 8, step: 8 })),
        field("Upscaler", select(["Latent", "Lanczos", "Nearest"], "Latent", { name: "hires_upscaler" })),
        field("Its strength", number(0.6, { name: "hires_strength", min: 0.01, max: 1, step: "any" })),
        field("Its steps (0: same)", number(0, { name: "hires_steps", min: 0, max: 150 })),
        field("Its sampler", select([["", "the same"], ...samplers.samplers], "", { name: "hires_sampler" })),
        field("Its schedule", select([["", "the same"], ...samplers.schedules], "", { name: "hires_schedule" }))),
      field("Its prompt", h("textarea", { name: "hires_prompt", rows: 1, className: "low", placeholder: "the same" })),
      field("Its negative prompt", h("textarea", { name: "hires_negative_prompt", rows: 1, className: "low", placeholder: "the same" }))));
}

// The second pass: how large, and what is another than in the first. Null where there is none.
function second(form) {
  const value = (name) => form.elements[name].value;
  const [scale, width, height] = ["hires_scale", "hires_width", "hires_height"].map((name) => Number(value(name)) || null);
  if (!scale && !width && !height) return null;
  const sampler = value("hires_sampler") || (value("hires_schedule") ? value("sampler") : "");
  const schedule = value("hires_schedule") || "Automatic";
  return {
    scale: width || height ? null : scale,
    width,
    height,
    upscaler: value("hires_upscaler"),
    strength: Number(value("hires_strength")),
    steps: Number(value("hires_steps")),
    sampler: sampler ? (schedule === "Automatic" ? sampler : `${sampler} ${schedule}`) : null,
    prompt: value("hires_prompt") || null,
    negative_prompt: value("hires_negative_prompt") || null,
  };
}

// The strength of the conditioning mask is there for models that see masks.
export function forMasks(form, models) {
  const { model, mask_strength } = form.elements;
  const look = () => {
    mask_strength.closest("label").hidden = !models.find((each) => each.name === model.value)?.inpainting;
  };
  form.addEventListener("input", look);  // of any field: an infotext fills several at once
  look();
}

// What a job has besides the usual. From a picture there is no second pass.
export function settings(form, fromPicture) {
  const value = (name) => form.elements[name].value;
  const asked = {
    variation_seed: Number(value("variation_seed")),
    variation_strength: Number(value("variation_strength")),
    seed_resize: value("seed_resize") ? value("seed_resize").split("x").map(Number) : null,
    clip_skip: Number(value("clip_skip")),
    tiling: value("tiling") === "yes",
    vae: value("vae") || null,
  };
  if (fromPicture) asked.noise_multiplier = Number(value("noise_multiplier"));
  const strength = form.elements.mask_strength;
  const hires = fromPicture ? null : second(form);
  if (hires) asked.hires = hires;
  if (!strength.closest("label").hidden && (fromPicture || hires)) asked.mask_strength = Number(strength.value);
  return asked;
}

// The fields from a picture's infotext; what it does not say is as usual.
export function fill(form, fields) {
  const put = (name, value) => { form.elements[name].value = value; };
  const hires = fields["Hires upscale"] ?? "";
  put("variation_seed", fields["Variation seed"] ?? -1);
  put("variation_strength", fields["Variation seed strength"] ?? 0);
  put("seed_resize", fields["Seed resize from"] ?? "");
  put("clip_skip", fields["Clip skip"] ?? 1);
  put("tiling", fields.Tiling === "True" ? "yes" : "");
  put("hires_scale", hires);
  put("vae", [...form.elements.vae.options].some((each) => each.value === fields.VAE) ? fields.VAE : "");
  const [width, height] = (fields["Hires resize"] ?? "x").split("x");
  put("hires_width", Number(width) || "");
  put("hires_height", Number(height) || "");
  put("hires_schedule", fields["Hires schedule type"] ?? "");
  put("hires_negative_prompt", fields["Hires negative prompt"] ?? "");
  put("hires_prompt", fields["Hires prompt"] ?? "");
  put("noise_multiplier", fields["Noise multiplier"] ?? 1);
  put("mask_strength", fields["Conditional mask weight"] ?? 1);
  put("hires_steps", fields["Hires steps"] ?? 0);
  put("hires_sampler", fields["Hires sampler"] ?? "");
  if (fields["Hires upscaler"]) put("hires_upscaler", fields["Hires upscaler"]);
  if ((hires || fields["Hires resize"]) && fields["Denoising strength"]) put("hires_strength", fields["Denoising strength"]);
}

// Counts the tokens of both prompts while they are typed: 13/75. Returns how to stop.
export function counter(form) {
  const { model, prompt, negative_prompt: negative } = form.elements;
  const [first, second] = form.querySelectorAll("output");
  const stops = [counted(model, prompt, first), counted(model, negative, second, true)];
  return () => stops.forEach((stop) => stop());
}

// Nothing is asked about an empty text that need not be there.
function counted(model, prompt, tokens, optional = false) {
  let timer = 0;
  let asked = 0;
  async function count() {
    const mine = ++asked;
    if (optional && !prompt.value.trim()) { tokens.textContent = ""; return; }
    try {
      const found = await send("/tokens", { model: model.value, text: prompt.value });
      if (mine !== asked) return;
      const unread = found.unread ? `, not read: ${found.unread}` : "";
      tokens.textContent = `${found.tokens}${found.limit ? `/${found.limit}` : ""} tokens${unread}`;
    } catch (error) {
      if (mine === asked) tokens.textContent = prompt.value ? error.message : "";
    }
  }
  const later = () => { clearTimeout(timer); timer = setTimeout(count, WAIT); };
  prompt.addEventListener("input", later);
  model.addEventListener("change", later);
  return () => { clearTimeout(timer); asked += 1; };
}

// A mask painted on the picture to start from: white is drawn anew.
export function masked() {
  const canvas = h("canvas", { className: "mask", title: "Paint what shall be drawn anew" });
  const paint = canvas.getContext("2d");
  const size = number(24, { min: 1, max: 256 });
  const content = select(CONTENTS, "original");
  const blur = number(4, { min: 0, max: 64 });
  const padding = number("", { min: 0, max: 512, placeholder: "whole picture" });
  const which = select([["", "what is painted"], ["rest", "all but that"]], "");
  let painted = false;
  let picture = null;
  const wipe = () => { paint.clearRect(0, 0, canvas.width, canvas.height); painted = false; };
  const element = h("details", { className: "more", hidden: true }, h("summary", {}, "Draw a part of it only"),
    h("p", { className: "note" }, "Paint what shall be drawn anew; the rest stays as it is."), canvas,
    h("div", { className: "fields" }, field("Brush", size), field("Mask blur", blur), field("Under it at first", content), field("Drawn anew", which),
      field("Only masked, padding", padding)),
    h("button", { type: "button", onclick: wipe }, "Wipe"));

  function dot(event) {
    if (!(event.buttons & 1)) return;
    const box = canvas.getBoundingClientRect();
    const scale = canvas.width / box.width;
    paint.fillStyle = "#fff";
    paint.beginPath();
    paint.arc((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, (Number(size.value) / 2) * scale, 0, 7);
    paint.fill();
    painted = true;
  }
  canvas.addEventListener("pointerdown", dot);
  canvas.addEventListener("pointermove", dot);

  return {
    element,
    begin(given) {
      picture = given;
      element.hidden = !given;
      if (!given) { painted = element.open = false; return; }
      canvas.width = given.width;
      canvas.height = given.height;
      blur.value = Math.round(given.width / 128);  // 4 at 512 pixels
      canvas.style.backgroundImage = `url(/api/v1/images/${given.id})`;
      painted = false;
    },
    open: () => { element.open = true; },
    chosen: () => painted && picture !== null,
    async settings() {
      const flat = h("canvas", { width: canvas.width, height: canvas.height });
      const below = flat.getContext("2d");
      below.fillStyle = which.value ? "#fff" : "#000";
      below.fillRect(0, 0, flat.width, flat.height);
      below.globalCompositeOperation = which.value ? "difference" : "source-over";  // white on white is black
      below.drawImage(canvas, 0, 0);
      const blob = await new Promise((done) => flat.toBlob(done, "image/png"));
      const sent = await upload("/images", blob);
      return {
        kind: "inpaint",
        mask: sent.id,
        mask_blur: Number(blur.value),
        masked_content: content.value,
        only_masked_padding: padding.value === "" ? null : Number(padding.value),
      };
    },
  };
}
