// ControlNet on the Generate panel: which network, what it sees, how much it has to say; several add up.

import { get, image, send, upload } from "./api.js";
import { button, drops, field, h, number, select, toast } from "./dom.js";

const KEY = "brushwork.controlnet";
const WAIT = 300;  // milliseconds without a change before the map is made again
const MODULES = { none: "none: it is the map", canny: "canny: its edges", invert: "invert: black lines on white" };
const MODES = [["balanced", "Balanced"], ["prompt", "My prompt is more important"], ["control", "ControlNet is more important"], ["guess", "Guess (with the prompt only)"]];
const RESIZES = [["crop", "Crop"], ["stretch", "Stretch"], ["fill", "Fill the margins"]];
const USUAL = { module: "none", resolution: 512, low: 100, high: 200, weight: 1, guidance_start: 0, guidance_end: 1, mode: "balanced", resize_mode: "crop" };
const NUMBERS = ["resolution", "low", "high", "weight", "guidance_start", "guidance_end"];

export async function controls(form) {
  const place = h("div", { className: "units" });
  const said = h("p", { className: "bad", role: "alert", hidden: true });
  const add = button("Add a ControlNet", () => { append(); changed(); });
  const note = h("p", { className: "note" });
  const again = button("Look again", async () => { await send("/catalogue/refresh", {}); await look(); });
  const summary = h("summary", {}, "ControlNet");
  const element = h("details", { className: "more" }, summary, note, place, said, h("div", { className: "buttons" }, add, again));
  const units = [];
  let names = [];
  let modules = [];
  let most = 1;
  let start = null;

  async function look() {
    const [found, limits] = await Promise.all([get("/controlnets"), get("/limits")]);
    names = found.controlnets.map((each) => each.name);
    modules = found.modules;
    most = limits.controlnets;
    const what = "A second network that sees a map of a picture, its edges for example, and steers the drawing towards it.";
    note.textContent = names.length ? what
      : `${what} None is here yet: put one (a diffusers folder or a .safetensors file) into the folder controlnet beside the runs, or start the server with --controlnet PATH.`;
    again.hidden = names.length > 0;
    count();
  }

  function count() {
    add.hidden = !names.length || units.length >= most;
    summary.textContent = units.length ? `ControlNet (${units.length})` : "ControlNet";
    units.forEach((each, position) => { each.legend.textContent = `ControlNet ${position + 1}`; });
  }

  function changed() {
    count();
    said.hidden = true;
    localStorage.setItem(KEY, JSON.stringify(units.map((each) => ({ ...each.values(), picture: each.picture() }))));
  }

  function append(given = {}) {
    const unit = make({ ...USUAL, model: names[0], ...given }, { names, modules, start: () => start, size: () => size(form), changed,
      remove: () => { units.splice(units.indexOf(unit), 1); unit.element.remove(); changed(); } });
    units.push(unit);
    place.append(unit.element);
    element.open = true;
    return unit;
  }

  function clear() {
    units.splice(0).forEach((each) => each.element.remove());
  }

  form.addEventListener("input", (event) => {
    if (["width", "height"].includes(event.target.name)) units.forEach((each) => each.look());
  });
  await look();
  if (names.length) {
    try {
      const kept = JSON.parse(localStorage.getItem(KEY) ?? "[]");
      kept.slice(0, most).filter((each) => names.includes(each.model)).forEach((each) => append(each));
    } catch {
      localStorage.removeItem(KEY);
    }
    count();
  }

  return {
    element,
    here: () => names.length > 0,
    begin(picture) { start = picture; units.forEach((each) => each.look()); },
    // What a job asks of them.
    settings() {
      units.forEach((each) => each.tell(""));
      return units.map((each, position) => {
        if (!each.picture() && !start) throw new Error(`controlnet.${position}: choose the picture that it sees`);
        return { ...each.values(), image: each.picture()?.id ?? null };
      });
    },
    // A picture that is sent here: for the first that has none, or else the last.
    take(picture) {
      const unit = units.find((each) => !each.picture()) ?? units.at(-1) ?? append();
      unit.see(picture);
      element.open = true;
      unit.element.scrollIntoView({ behavior: "smooth", block: "center" });
    },
    // Says an error of theirs where it belongs; false when it is none of theirs.
    failed(message) {
      const found = /^(?:\w+\.)?controlnet\b(?:\.(\d+))?/.exec(message);
      if (!found) return false;
      const unit = units[Number(found[1])];
      if (unit) unit.tell(message.slice(found[0].length).replace(/^[.: ]+/, ""));
      else { said.textContent = message; said.hidden = false; }
      element.open = true;
      (unit?.element ?? said).scrollIntoView({ behavior: "smooth", block: "center" });
      return true;
    },
    // The units of an infotext; it never has their pictures, but a job of this server knows them.
    fill(read, pictures = []) {
      clear();
      const missing = read.filter((each) => !names.includes(each.model)).map((each) => each.model ?? "without a name");
      if (missing.length) toast(`It was drawn with a ControlNet that is not here: ${missing.join(", ")}`);
      read.filter((each) => names.includes(each.model)).slice(0, most).forEach((each, position) => {
        const { unknown = [], ...values } = each;
        const unit = append(values);
        if (pictures[position] && !missing.length) unit.see({ id: pictures[position] });
        else unit.tell("Its settings are here; the picture that it saw is not in the text. Choose it again.", "note");
        if (unknown.length) unit.tell(`Not here, so left as usual: ${unknown.join(", ")}`);
      });
      changed();
    },
  };
}

function size(form) {
  const [width, height] = ["width", "height"].map((name) => Number(form.elements[name].value) || null);
  return width && height ? { width, height } : {};
}

function make(given, { names, modules, start, size: drawn, changed, remove }) {
  const legend = h("legend");
  const parts = {
    model: select(names, given.model),
    module: select(modules.map((each) => [each, MODULES[each] ?? each]), modules.includes(given.module) ? given.module : "none"),
    low: number(given.low, { min: 0, max: 255, step: "any" }),
    high: number(given.high, { min: 0, max: 255, step: "any" }),
    resolution: number(given.resolution, { min: 1, max: 2048, placeholder: "the picture's" }),
    weight: number(given.weight, { min: 0, max: 2, step: "any" }),
    guidance_start: number(given.guidance_start, { min: 0, max: 1, step: "any" }),
    guidance_end: number(given.guidance_end, { min: 0, max: 1, step: "any" }),
    mode: select(MODES, given.mode),
    resize_mode: select(RESIZES, given.resize_mode),
    union: number(given.union, { min: 0, placeholder: "none" }),
  };
  for (const [name, control] of Object.entries(parts)) control.dataset.control = name;
  const edges = h("div", { className: "fields" }, field("Weakest edge", parts.low), field("Sure edge", parts.high), field("Looked for at (px)", parts.resolution));
  const told = h("p", { className: "bad", role: "alert", hidden: true });
  const shown = h("img", { className: "square", alt: "The picture that the ControlNet is given" });
  const map = h("img", { className: "square", alt: "What the ControlNet sees" });
  const pair = h("div", { className: "seen", hidden: true }, h("figure", {}, shown, h("figcaption", {}, "Picture")), h("figure", {}, map, h("figcaption", {}, "What it sees")));
  const hint = h("p", { className: "note" });
  const file = h("input", { type: "file", accept: "image/png,image/jpeg,image/webp", className: "unseen", onchange: () => file.files[0] && take(file.files[0]) });
  const without = button("Take it out", () => see(null));
  const drop = h("div", { className: "drop" }, hint, pair,
    h("div", { className: "buttons" }, h("label", { className: "button" }, "Choose its picture", file), without));
  drops(drop, async ([first]) => first && take(first));
  let picture = null;
  let asked = 0;
  let timer = 0;

  async function take(chosen) {
    try {
      see(await upload("/images", chosen));
    } catch (error) {
      tell(error.message);
    }
  }

  function see(given) {
    picture = given;
    tell("");
    changed();
    look();
  }

  function look() {
    const seen = picture ?? start();
    pair.hidden = !seen;
    without.hidden = !picture;
    edges.hidden = parts.module.value !== "canny";
    for (const each of [parts.low, parts.high, parts.resolution]) each.disabled = edges.hidden;  // what is not seen is not checked
    hint.textContent = picture ? "" : start() ? "It sees the picture that is started from, unless it gets its own." : "Drop the picture here that it shall see.";
    hint.hidden = !hint.textContent;
    clearTimeout(timer);
    asked += 1;
    if (!seen) return;
    shown.src = image(seen.id);
    timer = setTimeout(() => draw(seen, asked), WAIT);
  }

  // The map, as it will be seen at the size that is drawn, where that is known.
  async function draw(seen, mine) {
    const { module, low, high, resolution, resize_mode } = values();
    const answer = await fetch("/api/v1/controlnets/map", { method: "POST", headers: { "content-type": "application/json" },
      body: JSON.stringify({ image: seen.id, module, low, high, resolution, resize_mode, ...drawn() }) });
    if (mine !== asked) return;
    if (answer.ok) {
      URL.revokeObjectURL(map.src);
      map.src = URL.createObjectURL(await answer.blob());
    } else if (answer.status === 404 && seen === picture) {
      see(null);
      tell("Its picture is not there any more. Choose it again.", "note");
    } else {
      tell((await answer.json()).error.message);
    }
  }

  function tell(text, kind = "bad") {
    told.textContent = text;
    told.className = kind;
    told.hidden = !text;
  }

  function values() {
    const read = Object.entries(parts).map(([name, control]) => [name, NUMBERS.includes(name) ? Number(control.value) : control.value]);
    const union = parts.union.value === "" ? null : Number(parts.union.value);
    return { ...Object.fromEntries(read), resolution: Number(parts.resolution.value) || null, union };
  }

  const element = h("fieldset", { className: "unit" }, legend,
    h("div", { className: "row" }, field("Network", parts.model), button("Remove", remove)),
    drop, field("How its map is made", parts.module), edges,
    h("div", { className: "fields" }, field("Weight", parts.weight), field("Begins at (0 to 1)", parts.guidance_start),
      field("Ends at (0 to 1)", parts.guidance_end), field("Mode", parts.mode), field("Other proportions", parts.resize_mode), field("Sort of map (of a union)", parts.union)),
    told);
  element.addEventListener("input", (event) => {
    tell("");
    changed();
    if (["module", "low", "high", "resolution", "resize_mode"].includes(event.target.dataset.control)) look();
  });
  if (given.picture) picture = given.picture;
  look();
  return { element, legend, values, picture: () => picture, see, look, tell };
}
