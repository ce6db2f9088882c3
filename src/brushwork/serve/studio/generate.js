// Generate: the txt2img panel, img2img and inpainting from a picture, X/Y/Z plots, the history below.

import { call, get, image, send, upload } from "./api.js";
import { controls } from "./control.js";
import { button, dialog, drops, field, h, number, remember, select, toast } from "./dom.js";
import { shown, watch } from "./job.js";
import { counter, fill as fillMore, forMasks, masked, more, settings } from "./more.js";
import { plot } from "./plot.js";
import { styles } from "./styles.js";
import { welcome } from "./welcome.js";
import { words } from "./words.js";

const LONGEST = 1024;
const INFOTEXT = /\nSteps: \d+, /;

export async function show(page, [model]) {
  const [models, adapters, samplers, vaes, embeddings] = await Promise.all(
    ["/models", "/adapters", "/samplers", "/vaes", "/embeddings"].map((each) => get(each)));
  const result = h("div", {}, h("p", { className: "note" }, "Write what shall be drawn, and press Generate."));
  const history = h("div", { className: "stack" });
  let close = null;
  let start = null;
  let above = null;  // the job whose pictures are the result
  const xyz = plot(models, adapters, samplers, vaes);
  const form = panel(models, adapters, samplers, vaes, xyz);
  const keep = remember("generate", form);
  if (model) form.elements.model.value = model;
  forMasks(form, models);
  xyz.ready();
  await styles(form, keep);
  form.querySelector("details.more > summary").after(words(form, adapters, embeddings) ?? "");
  const steering = await controls(form);
  xyz.element.before(steering.element);
  const stopCounting = counter(form);
  const mask = masked();

  const NONE = "Drop a picture here, or choose one: to change it, to draw a part of it anew, or to read its settings.";
  const startNote = h("p", { className: "note" }, NONE);
  const chosen = h("img", { className: "start", alt: "The picture to start from", hidden: true });
  const file = h("input", { type: "file", accept: "image/png,image/jpeg,image/webp", className: "unseen", onchange: () => file.files[0] && take(file.files[0]) });
  const clear = button("Start from noise", () => begin(null), { hidden: true });
  const size = button("Draw it in its size", () => sized(start), { hidden: true });
  const enlarge = button("Enlarge it", () => larger({ ...start, label: "The picture", seed: "picture" }), { hidden: true });
  const from = button("Generate from it", () => form.requestSubmit(), { className: "main", hidden: true });
  const drop = h("div", { className: "drop" }, startNote, chosen,
    h("div", { className: "buttons" }, h("label", { className: "button" }, "Choose a picture", file), clear, size, enlarge), mask.element, from);
  drops(drop, async ([first]) => first && take(first));

  function begin(picture) {
    start = picture;
    mask.begin(picture);
    steering.begin(picture);
    clear.hidden = size.hidden = enlarge.hidden = from.hidden = chosen.hidden = !picture;
    form.elements.strength.closest("label").hidden = !picture;
    if (picture) chosen.src = image(picture.id);
    startNote.textContent = picture ? `Starts from this picture of ${picture.width} × ${picture.height}; strength says how much of it changes. What is beyond the size that is drawn is cut.` : NONE;
  }

  // Width and height from the picture, no side longer than LONGEST.
  function sized({ width, height }) {
    const scale = Math.min(1, LONGEST / Math.max(width, height));
    for (const [name, side] of Object.entries({ width, height })) form.elements[name].value = Math.max(8, Math.round((side * scale) / 8) * 8);
    form.elements.width.dispatchEvent(new Event("input", { bubbles: true }));
  }

  async function take(given) {
    try {
      if (given.type === "image/png") {
        const body = new FormData();
        body.append("file", given, "picture");
        const read = await call("/metadata/parse", { method: "POST", body });
        if (Object.keys(read?.fields ?? {}).length) restore(read);
      }
      begin(await upload("/images", given));
    } catch (error) {
      toast(error.message);
    }
  }

  form.elements.prompt.addEventListener("paste", async (event) => {
    const text = event.clipboardData.getData("text");
    if (!INFOTEXT.test(text)) return;
    event.preventDefault();
    restore(await send("/metadata/text", { text }));
  });

  // The fields from what a picture says; a job of this server knows what its ControlNets saw, too.
  function restore(read, job = null) {
    fill(form, read);
    xyz.fill(read.fields);
    steering.fill(read.controlnet, (job?.asked.controlnet ?? []).map((each) => each.image));
    keep();
  }

  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.altKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(); }
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const job = { ...asked(form), ...settings(form, Boolean(start)), controlnet: steering.settings() };
      const axes = xyz.axes();
      if (start) Object.assign(job, { kind: "img2img", init: start.id, strength: Number(form.elements.strength.value) });
      if (start && mask.chosen()) Object.assign(job, await mask.settings());
      if (axes.length) Object.assign(job, { kind: "grid", axes, n: 1 });
      const { id } = await send("/jobs", job);
      follow(id);
      await refresh();
      if (innerWidth < 800) result.scrollIntoView({ behavior: "smooth" });
    } catch (error) {
      if (!steering.failed(error.message)) toast(error.message);
    }
  });

  function follow(id) {
    close?.();
    above = id;
    close = watch(id, result, (job) => job.error && steering.failed(job.error.message), actions);
  }

  // What else can be done with a picture.
  function actions(each, job) {
    return [
      button("Start from it", () => reuse(each)),
      button("Draw a part of it", async () => { await reuse(each); mask.open(); }),
      steering.here() ? button("Let ControlNet see it", async () => steering.take(await copied(each))) : null,
      button("Make it larger", () => larger(each)),
      button("Its seed", () => { form.elements.seed.value = each.seed; keep(); }),
      button("Its settings", async () => {
        restore(await send("/metadata/text", { text: each.infotext ?? "" }), job);
        scrollTo({ top: 0, behavior: "smooth" });
      }),
    ];
  }

  async function copied(each) {
    return upload("/images", await (await fetch(image(each.id))).blob());
  }

  async function reuse(each) {
    begin(await copied(each));
    drop.scrollIntoView({ behavior: "smooth", block: "center" });
  }

  async function refresh() {
    const jobs = await get("/jobs?limit=12");
    history.replaceChildren(
      ...jobs.filter((job) => job.id !== above && job.kind !== "compare" && job.pictures.some((each) => each.id)).map((job) => {
        const forget = button("Remove", async () => { await send(`/jobs/${job.id}/forget`, {}); card.remove(); });
        const card = h("section", { className: "card" },
          h("div", { className: "row" }, h("h2", {}, job.asked.prompt || job.kind), forget), shown(job, actions));
        return card;
      }));
    if (history.parentElement) history.parentElement.hidden = !history.children.length;
    const running = jobs.find((job) => ["queued", "running"].includes(job.state));
    if (running && !close) {
      follow(running.id);
      await refresh();
    }
  }

  begin(null);
  page.replaceChildren(...(await welcome()),
    h("div", { className: "two" },
      h("div", {}, h("section", { className: "card" }, h("h2", {}, "Generate"), form), h("section", { className: "card" }, h("h2", {}, "From a picture"), drop)),
      h("div", {}, h("section", { className: "card" }, h("h2", {}, "Result"), result),
        h("details", { className: "past", open: true }, h("summary", {}, "Drawn before"), history))));
  await refresh();
  return () => { close?.(); stopCounting(); };
}

// Larger without drawing: a window asks how, and shows what came out.
function larger(each) {
  return dialog("Make it larger", (close) => {
    const scale = number(2, { min: 1, max: 8, step: "any" });
    const how = select(["Lanczos", "Nearest"], "Lanczos");
    const place = h("div");
    const make = button("Make", async () => {
      const answer = await fetch(`${image(each.id)}/upscale`, {
        method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify({ scale: Number(scale.value), upscaler: how.value }),
      });
      if (!answer.ok) throw new Error((await answer.json()).error.message);
      const url = URL.createObjectURL(await answer.blob());
      place.replaceChildren(h("figure", {}, h("img", { src: url, alt: `${each.label}, larger` })),
        h("a", { className: "button", href: url, download: `brushwork-${each.seed}-${scale.value}x.png` }, "Save"));
    }, { className: "main" });
    return [
      h("p", { className: "note" }, "Without drawing; a second pass that adds detail is under More."),
      h("div", { className: "fields" }, field("Larger by", scale), field("How", how)),
      place, h("div", { className: "buttons" }, make, button("Close", () => close())),
    ];
  });
}

function panel(models, adapters, samplers, vaes, xyz) {
  const names = models.map((each) => [each.name, each.detail ? `${each.title}, ${each.detail}` : each.title]);
  return h("form", {},
    field("Model", select(names, names[0]?.[0], { name: "model" })),
    field("Prompt", h("textarea", { name: "prompt", required: true, placeholder: "a dog on a red background" })),
    h("output", { className: "note" }),
    field("Negative prompt", h("textarea", { name: "negative_prompt", rows: 1, className: "low" })),
    h("output", { className: "note" }),
    h("div", { id: "styles" }),
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
      field("Strength", number(0.6, { name: "strength", min: 0.05, max: 1, step: 0.05 }))),
    more(samplers, vaes), xyz.element,
    h("div", { className: "buttons go" }, h("button", { className: "main", title: "Ctrl+Enter" }, "Generate")));
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
  const unknown = [];
  const put = (name, value) => {
    const control = form.elements[name];
    if (value === undefined) return;
    if (control.tagName === "SELECT" && ![...control.options].some((each) => each.value === value)) unknown.push(value);
    else control.value = value;
  };
  const [width, height] = (read.fields.Size ?? "x").split("x");
  put("prompt", read.prompt);
  put("negative_prompt", read.negative_prompt);
  put("model", read.fields.Model);
  put("steps", read.fields.Steps);
  put("guidance_scale", read.fields["CFG scale"]);
  put("seed", read.fields.Seed);
  put("sampler", read.fields.Sampler);
  put("schedule", read.fields["Schedule type"] ?? "Automatic");
  put("width", width);
  put("height", height);
  fillMore(form, read.fields);
  form.elements.prompt.dispatchEvent(new Event("input", { bubbles: true }));
  if (unknown.length) toast(`Not here, so left as it was: ${unknown.join(", ")}`);
  toast("The settings of the picture are in the fields.", true);
}
