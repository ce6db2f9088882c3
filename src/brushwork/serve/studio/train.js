// Train: choose data, method and base, see what it will be, start it, watch it.

import { get, send } from "./api.js";
import { button, bytes, field, h, number, plural, remember, seconds, select, toast } from "./dom.js";
import { OVER, watchRun } from "./run.js";

// Settings that the form shows beside data, method, base and steps; everything else of the schema is a field below.
const COMMON = ["optimizer.learning_rate", "train.train_batch_size", "seed", "validation.prompts"];
const PLAIN = ["data", "method", "base", "steps"];

export async function show(page, [chosen]) {
  const [models, datasets, schema, runs] = await Promise.all([get("/models"), get("/datasets"), get("/train/schema"), get("/runs")]);
  const watching = h("div");
  let close = null;
  const bases = models.filter((each) => !/ on /.test(each.detail) && !each.inpainting);
  const about = h("p", { className: "note" });
  const settings = h("div");
  const estimated = h("div", { id: "estimate" });
  const sets = [...datasets.filter((each) => !each.embedded), ...datasets.filter((each) => each.embedded)];
  const form = h("form", {},
    field("Data set", select(sets.map((each) => [each.name, `${each.name}, ${plural(each.pictures, "picture")}${each.embedded ? " (comes along)" : ""}`]), chosen, { name: "data" })),
    h("p", { className: "note" }, "Pictures of your own: put them in on the ", h("a", { href: "#data" }, "Data"), " page."),
    field("Method", select(schema.methods, "lora", { name: "method", onchange: () => described() })), about,
    field("Base", select(bases.map((each) => each.name), "mini", { name: "base" })),
    h("div", { className: "fields" },
      field("Steps", number("", { name: "steps", min: 1, placeholder: "by rule" })),
      field("Learning rate", h("input", { name: "optimizer.learning_rate", placeholder: "by rule", inputMode: "decimal" })),
      field("Batch", number("", { name: "train.train_batch_size", min: 1, placeholder: "by rule" })),
      field("Seed", number("", { name: "seed", min: 0, placeholder: "0" }))),
    field("Prompts to watch, one in each line", h("textarea", { name: "validation.prompts", rows: 2, placeholder: "captions of the data" })),
    settings,
    h("div", { className: "buttons" },
      h("button", { className: "main" }, "Start"),
      button("What will it be?", () => estimate(false)),
      button("… and how long?", () => estimate(true), { title: "Trains a few steps to see how fast they are" })),
    estimated);
  described();
  remember("train", form);
  if (chosen) form.elements.data.value = chosen;
  described();

  function described() {
    const preset = schema.presets[form?.elements.method.value ?? "lora"];
    about.textContent = preset.about;
    const typed = new Map([...settings.querySelectorAll("input")].map((each) => [each.name, each.value]));
    settings.replaceChildren(h("details", { className: "more", open: settings.firstChild?.open ?? false }, h("summary", {}, "All settings"), advanced(schema.schema, preset)));
    for (const each of settings.querySelectorAll("input")) if (typed.get(each.name)) each.value = typed.get(each.name);
  }

  function request() {
    const given = {};
    for (const control of form.elements) {
      if (!control.name || PLAIN.includes(control.name) || control.value === "") continue;
      given[control.name] = parsed(control);
    }
    const value = (name) => form.elements[name].value;
    return { data: value("data"), method: value("method"), base: value("base"), steps: value("steps") ? Number(value("steps")) : null, settings: given };
  }

  async function estimate(time) {
    estimated.replaceChildren(h("p", { className: "note", role: "status" }, time ? "Looking at data and model, and trying a few steps …" : "Looking at data and model …"));
    try {
      estimated.replaceChildren(...told(await send(`/train/estimate?calibrate=${time}`, request())));
    } catch (error) {
      estimated.replaceChildren(h("p", { className: "bad" }, error.message));
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { name, position } = await send("/runs", request());
      if (position) toast(`${name} waits: ${plural(position, "run is", "runs are")} before it.`, true);
      await line();
      if (!position || !close) watch(name);
      if (innerWidth < 800) watching.scrollIntoView({ behavior: "smooth" });
    } catch (error) {
      toast(error.message);
    }
  });

  const waiting = h("div");
  function watch(name) {
    close?.();
    close = watchRun(name, watching, line);
  }
  async function line() {
    const queued = (await get("/runs")).filter((run) => run.status === "queued").sort((a, b) => a.position - b.position);
    waiting.replaceChildren(...(queued.length ? [h("h2", {}, "Waiting"), h("table", {}, queued.map((run) =>
      h("tr", {}, h("td", {}, run.name), h("td", { className: "note" }, `${plural(run.position, "run")} before it`),
        h("td", {}, button("Take out", async () => { await send(`/runs/${encodeURIComponent(run.name)}/stop`, {}); await line(); })))))] : []));
  }

  page.replaceChildren(
    h("div", { className: "two" }, h("section", { className: "card" }, h("h2", {}, "Train"), form),
      h("section", { className: "card" }, watching, waiting)));
  const running = runs.find((run) => ["running", "preparing"].includes(run.status)) ?? runs.find((run) => run.status === "queued");
  if (running) watch(running.name);
  else watching.replaceChildren(h("h2", {}, "In training"), h("p", { className: "note" }, "Nothing. Choose data and press Start; every setting that is left empty follows a rule. A run goes on when this page is closed."),
    runs.some((run) => OVER.includes(run.status)) ? h("p", {}, "What was trained before is under ", h("a", { href: "#runs" }, "Runs"), ".") : "");
  await line();
  return () => close?.();
}

// What a run will be, in words; the numbers and their reasons below.
function told({ plan, chosen, forecast }) {
  const parts = [];
  if (forecast) {
    const memory = `${bytes(forecast.peak_bytes)} of memory at most`;
    const room = forecast.available_bytes ? `${bytes(forecast.available_bytes)} are free on ${forecast.device}` : `how much ${forecast.device} has is not known`;
    const fits = forecast.fits === false ? "Does not fit" : forecast.fits ? "Fits" : "May fit";
    parts.push(h("p", { className: forecast.fits === false ? "bad" : "" }, h("strong", {}, `${fits}: `), `${memory}; ${room}.`));
    const disk = Object.values(forecast.disk ?? {}).reduce((sum, each) => sum + each, 0);
    const time = forecast.seconds ? `It takes about ${seconds(forecast.seconds)}` : "How long it takes, a few steps can tell";
    parts.push(h("p", {}, `${time}; ${bytes(disk)} on the disk.`));
    parts.push(...(forecast.advice ?? []).map((each) => h("p", { className: "note" }, typeof each === "string" ? each : Object.values(each).join(" "))));
  }
  if (plan.steps) {
    parts.unshift(h("p", {}, `${plural(plan.steps, "step")} of ${plural(plan.effective_batch, "picture")}: each of ${plan.pictures} is seen ${Math.round(plan.times_each_is_seen)} times. `,
      plan.held_out ? `${plan.held_out} are held out, to see how it does on what it was not shown.` : ""));
  }
  const rows = Object.entries(plan).map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name.replaceAll("_", " ")), h("td", { className: "number" }, typeof value === "object" ? JSON.stringify(value) : String(value))));
  parts.push(h("details", { className: "more" }, h("summary", {}, "All numbers, and why"), h("table", {}, rows), h("ul", {}, chosen.map((rule) => h("li", { className: "note" }, rule.reason)))));
  return parts;
}

function parsed(control) {
  if (control.name === "validation.prompts") return control.value.split("\n").map((line) => line.trim()).filter(Boolean);
  try {
    return JSON.parse(control.value);
  } catch {
    return control.value;
  }
}

// One field for every setting, with the schema's own words; of method, data and objective those that the preset chooses.
function advanced(schema, preset) {
  const sections = [];
  for (const [part, about] of Object.entries(schema.properties ?? {})) {
    const found = resolve(schema, about, preset[part]);
    if (!found?.properties) continue;
    const fields = Object.entries(found.properties)
      .filter(([name]) => !COMMON.includes(`${part}.${name}`) && !["type", "path", "class_path"].includes(name))
      .map(([name, setting]) => field(name.replaceAll("_", " "), h("input", { name: `${part}.${name}`, title: setting.description ?? "", placeholder: shown(setting.default) })));
    if (fields.length) sections.push(h("details", {}, h("summary", {}, preset[part] ? `${part}: ${preset[part]}` : part), h("div", { className: "fields" }, fields)));
  }
  return sections;
}

function resolve(schema, about, type) {
  if (about.oneOf) return about.oneOf.find((each) => each.properties?.type?.const === type);
  const reference = about.$ref ?? about.allOf?.[0]?.$ref ?? about.anyOf?.find((each) => each.$ref)?.$ref;
  return reference ? schema.$defs?.[reference.split("/").at(-1)] : about;
}

const shown = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
