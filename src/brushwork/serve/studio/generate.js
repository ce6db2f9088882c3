// Generate: the txt2img panel, img2img and inpainting by dropping a picture, the history below.

import { call, get, send, upload } from "./api.js";
import { field, h, number, remember, select, toast } from "./dom.js";
import { shown, watch } from "./job.js";
import { counter, fill as fillMore, masked, more, settings } from "./more.js";

export async function show(page) {
  const [models, adapters, samplers, vaes] = await Promise.all(
    ["/models", "/adapters", "/samplers", "/vaes"].map((each) => get(each)));
  const result = h("div");
  const history = h("div");
  let close = null;
  let start = null;
  const form = panel(models, adapters, samplers, vaes);
  remember("generate", form);
  const stopCounting = counter(form);
  const mask = masked();

  const startNote = h("p", { className: "note" }, "No picture to start from. Drop one here to change it, or to read its settings.");
  const drop = h("div", { className: "drop" }, startNote);
  const clear = h("button", { type: "button", onclick: () => begin(null) }, "Start from noise");
  drop.append(clear, mask.element);
  clear.hidden = true;

  function begin(picture) {
    start = picture;
    mask.begin(picture);
    clear.hidden = !picture;
    startNote.textContent = picture
      ? `Starts from a picture of ${picture.width} × ${picture.height}; strength says how much of it changes.`
      : "No picture to start from. Drop one here to change it, or to read its settings.";
  }

  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const file = event.dataTransfer.files[0];
    if (file) await take(file);
  });

  async function take(file) {
    try {
      const body = new FormData();
      body.append("file", file, "picture");
      const read = file.type === "image/png" ? await call("/metadata/parse", { method: "POST", body }) : null;
      if (read?.prompt) fill(form, read);
      begin(await upload("/images", file));
    } catch (error) {
      toast(error.message);
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const job = { ...asked(form), ...settings(form, Boolean(start)) };
    try {
      if (start) Object.assign(job, { kind: "img2img", init: start.id, strength: Number(form.elements.strength.value) });
      if (start && mask.chosen()) Object.assign(job, await mask.settings());
      const { id } = await send("/jobs", job);
      close?.();
      close = watch(id, result, refresh);
    } catch (error) {
      toast(error.message);
    }
  });

  async function refresh() {
    const jobs = (await get("/jobs?limit=12")).filter((job) => job.pictures.some((each) => each.id));
    history.replaceChildren(
      ...jobs.map((job) =>
        h("section", { className: "card" }, h("h2", {}, job.asked.prompt || job.kind),
          shown(job, (each) => h("button", { type: "button", onclick: () => reuse(each) }, "Start from it"))),
      ),
    );
    const running = (await get("/jobs?limit=20")).find((job) => ["queued", "running"].includes(job.state));
    if (running && !close) close = watch(running.id, result, refresh);
  }

  async function reuse(each) {
    const blob = await (await fetch(`/api/v1/images/${each.id}`)).blob();
    begin(await upload("/images", blob));
    scrollTo({ top: 0, behavior: "smooth" });
  }

  page.replaceChildren(
    h("div", { className: "two" },
      h("section", { className: "card" }, form, drop),
      h("div", {}, h("section", { className: "card" }, h("h2", {}, "Result"), result), history)),
  );
  await refresh();
  return () => { close?.(); stopCounting(); };
}

function panel(models, adapters, samplers, vaes) {
  const names = models.map((each) => [each.name, each.detail ? `${each.title}, ${each.detail}` : each.title]);
  return h("form", {},
    field("Model", select(names, names[0]?.[0], { name: "model" })),
    field("Prompt", h("textarea", { name: "prompt", required: true, placeholder: "a dog on a red background" })),
    h("output", { className: "note" }),
    field("Negative prompt", h("textarea", { name: "negative_prompt", rows: 1 })),
    h("div", { className: "fields" },
      field("Adapter", select([["", "none"], ...adapters.map((each) => each.name)], "", { name: "adapter" })),
      field("Adapter weight", number(1, { name: "weight", step: 0.05, min: -2, max: 2 })),
      field("Sampler", select(samplers.samplers, "DPM++ 2M", { name: "sampler" })),
      field("Schedule", select(samplers.schedules, "Automatic", { name: "schedule" })),
      field("Steps", number(20, { name: "steps", min: 1, max: 150 })),
      field("CFG scale", number(5, { name: "guidance_scale", min: 0, max: 30, step: 0.5 })),
      field("Width", number("", { name: "width", min: 8, step: 8, placeholder: "model's" })),
      field("Height", number("", { name: "height", min: 8, step: 8, placeholder: "model's" })),
      field("Pictures", number(4, { name: "n", min: 1, max: 100 })),
      field("Seed (-1: random)", number(-1, { name: "seed", min: -1 })),
      field("Strength (from a picture)", number(0.6, { name: "strength", min: 0.05, max: 1, step: 0.05 }))),
    more(samplers, vaes),
    h("div", { className: "buttons" }, h("button", { className: "main" }, "Generate")));
}

export function asked(form) {
  const value = (name) => form.elements[name].value;
  const whole = (name) => (value(name) === "" ? null : Number(value(name)));
  const schedule = value("schedule");
  return {
    kind: "txt2img",
    model: value("model"),
    prompt: value("prompt"),
    negative_prompt: value("negative_prompt"),
    adapters: value("adapter") ? [{ name: value("adapter"), weight: Number(value("weight")) }] : [],
    sampler: schedule === "Automatic" ? value("sampler") : `${value("sampler")} ${schedule}`,
    steps: whole("steps"),
    guidance_scale: whole("guidance_scale"),
    width: whole("width"),
    height: whole("height"),
    n: whole("n"),
    seed: whole("seed"),
  };
}

function fill(form, read) {
  const put = (name, value) => { if (value !== undefined) form.elements[name].value = value; };
  const [width, height] = (read.fields.Size ?? "x").split("x");
  put("prompt", read.prompt);
  put("negative_prompt", read.negative_prompt);
  put("steps", read.fields.Steps);
  put("guidance_scale", read.fields["CFG scale"]);
  put("seed", read.fields.Seed);
  put("sampler", read.fields.Sampler);
  put("schedule", read.fields["Schedule type"]);
  put("width", width);
  put("height", height);
  fillMore(form, read.fields);
  toast("The settings of the picture are in the fields.", true);
}
