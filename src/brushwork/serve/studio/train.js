// Train: choose data, method and base, see what it will be, start it, watch it.

import { get, send } from "./api.js";
import { field, h, number, remember, select, toast } from "./dom.js";
import { OVER, watchRun } from "./run.js";

// Settings that the form shows beside data, method, base and steps; everything else of the schema is a line of its own.
const COMMON = ["optimizer.learning_rate", "train.train_batch_size", "data.resolution", "seed", "validation.prompts"];

export async function show(page, [chosen]) {
  const [models, datasets, schema, runs] = await Promise.all([get("/models"), get("/datasets"), get("/train/schema"), get("/runs")]);
  const watching = h("div");
  let close = null;
  const bases = models.filter((each) => !/ on /.test(each.detail));
  const form = h("form", {},
    field("Data set", select(datasets.map((each) => [each.name, `${each.name}, ${each.pictures} pictures`]), chosen, { name: "data" })),
    h("p", { className: "note" }, "Pictures of your own: put them in on the ", h("a", { href: "#data" }, "Data"), " page."),
    field("Method", select(schema.methods, "lora", { name: "method" })),
    field("Base", select(bases.map((each) => each.name), "mini", { name: "base" })),
    h("div", { className: "fields" },
      field("Steps", number("", { name: "steps", min: 1, placeholder: "by rule" })),
      field("Learning rate", h("input", { name: "optimizer.learning_rate", placeholder: "by rule", inputMode: "decimal" })),
      field("Batch", number("", { name: "train.train_batch_size", min: 1, placeholder: "by rule" })),
      field("Seed", number("", { name: "seed", min: 0, placeholder: "0" }))),
    field("Prompts to watch, one in each line", h("textarea", { name: "validation.prompts", rows: 2, placeholder: "captions of the data" })),
    h("details", {}, h("summary", {}, "All settings"), ...advanced(schema.schema)),
    h("div", { className: "buttons" },
      h("button", { className: "main" }, "Start"),
      h("button", { type: "button", onclick: estimate }, "What will it be?")),
    h("div", { id: "estimate" }));
  remember("train", form);
  if (chosen) form.elements.data.value = chosen;

  function request() {
    const settings = {};
    for (const control of form.elements) {
      if (!control.name || ["data", "method", "base", "steps"].includes(control.name) || control.value === "") continue;
      settings[control.name] = parsed(control);
    }
    const value = (name) => form.elements[name].value;
    return { data: value("data"), method: value("method"), base: value("base"), steps: value("steps") ? Number(value("steps")) : null, settings };
  }

  async function estimate() {
    const place = document.getElementById("estimate");
    place.replaceChildren(h("p", { className: "note" }, "Looking at data and model …"));
    try {
      const { plan, chosen: rules } = await send("/train/estimate", request());
      place.replaceChildren(
        h("table", {}, Object.entries(plan).map(([name, value]) => h("tr", {}, h("th", {}, name.replaceAll("_", " ")), h("td", {}, typeof value === "object" ? JSON.stringify(value) : String(value))))),
        ...rules.map((rule) => h("p", { className: "note" }, rule.reason)));
    } catch (error) {
      place.replaceChildren(h("p", { className: "bad" }, error.message));
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const { name } = await send("/runs", request());
      close?.();
      close = watchRun(name, watching);
    } catch (error) {
      toast(error.message);
    }
  });

  page.replaceChildren(
    h("div", { className: "two" }, h("section", { className: "card" }, form),
      h("section", { className: "card" }, h("h2", {}, "In training"), watching)));
  const running = runs.find((run) => !OVER.includes(run.status) && ["running", "preparing"].includes(run.status));
  if (running) close = watchRun(running.name, watching);
  else watching.replaceChildren(h("p", { className: "note" }, "Nothing. A run goes on when this page is closed."));
  return () => close?.();
}

function parsed(control) {
  if (control.name === "validation.prompts") return control.value.split("\n").map((line) => line.trim()).filter(Boolean);
  try {
    return JSON.parse(control.value);
  } catch {
    return control.value;
  }
}

// One field for every setting of the parts that are no plug-in's, with the schema's own words.
function advanced(schema) {
  const sections = [];
  for (const [part, about] of Object.entries(schema.properties ?? {})) {
    const found = resolve(schema, about);
    if (!found?.properties) continue;
    const fields = Object.entries(found.properties)
      .filter(([name]) => !COMMON.includes(`${part}.${name}`) && name !== "type")
      .map(([name, setting]) => field(name.replaceAll("_", " "), h("input", { name: `${part}.${name}`, title: setting.description ?? "", placeholder: shown(setting.default) })));
    sections.push(h("details", {}, h("summary", {}, part), h("div", { className: "fields" }, fields)));
  }
  return sections;
}

function resolve(schema, about) {
  const reference = about.$ref ?? about.allOf?.[0]?.$ref ?? about.anyOf?.find((each) => each.$ref)?.$ref;
  return reference ? schema.$defs?.[reference.split("/").at(-1)] : about;
}

const shown = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
