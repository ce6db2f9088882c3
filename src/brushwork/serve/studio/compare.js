// Compare: the same prompts and seeds by several models, as a grid, and any two of them under a slider.

import { get, image, send } from "./api.js";
import { field, h, number, remember, toast } from "./dom.js";
import { watch } from "./job.js";

export async function show(page, [first]) {
  const models = await get("/models");
  const result = h("div");
  let close = null;
  const boxes = models.map((each, place) =>
    h("label", { className: "row" },
      h("input", { type: "checkbox", name: "models", value: each.name, checked: first ? [first, "mini"].includes(each.name) : place < 2 }),
      each.detail ? `${each.title}, ${each.detail}` : each.title));
  const form = h("form", {},
    h("fieldset", {}, h("legend", {}, "Models"), boxes),
    field("Prompts, one in each line", h("textarea", { name: "prompts", required: true, rows: 5, value: "a dog on a red background\na castle" })),
    h("div", { className: "fields" },
      field("Seeds", number(2, { name: "n", min: 1, max: 20 })),
      field("First seed", number(1, { name: "seed", min: 0 })),
      field("Steps", number(20, { name: "steps", min: 1, max: 150 })),
      field("CFG scale", number(5, { name: "guidance_scale", min: 0, step: 0.5 }))),
    h("div", { className: "buttons" }, h("button", { className: "main" }, "Compare")));
  remember("compare", form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const chosen = boxes.map((box) => box.firstChild).filter((box) => box.checked).map((box) => box.value);
    const value = (name) => form.elements[name].value;
    const prompts = value("prompts").split("\n").map((line) => line.trim()).filter(Boolean);
    if (chosen.length < 2) return toast("Choose two models or more.");
    try {
      const { id } = await send("/jobs", {
        kind: "compare", models: chosen, prompts, n: Number(value("n")), seed: Number(value("seed")),
        steps: Number(value("steps")), guidance_scale: Number(value("guidance_scale")),
      });
      close?.();
      close = watch(id, result, (job) => result.replaceChildren(...table(job, chosen)));
    } catch (error) {
      toast(error.message);
    }
  });
  page.replaceChildren(
    h("div", { className: "two" }, h("section", { className: "card" }, form),
      h("section", { className: "card" }, h("h2", {}, "Side by side"), result)));
  return () => close?.();
}

function table(job, models) {
  if (job.state !== "done") return [h("p", { className: "bad" }, job.error?.message ?? "Stopped.")];
  const rows = [];
  for (let place = 0; place < job.pictures.length; place += models.length) rows.push(job.pictures.slice(place, place + models.length));
  const prompts = job.asked.prompts.length ? job.asked.prompts : [job.asked.prompt];
  const under = h("div");
  const cells = rows.map((row, place) =>
    h("tr", {},
      h("td", {}, prompts[Math.floor(place / job.asked.n)], h("br"), h("span", { className: "note" }, `seed ${row[0].seed}`)),
      row.map((each) => h("td", {}, h("figure", {}, h("img", { src: image(each.id), alt: each.label, loading: "lazy" })))),
      h("td", {}, h("button", { type: "button", onclick: () => under.replaceChildren(slider(row[0], row.at(-1))) }, "Slide"))));
  const head = h("tr", {}, h("th", {}, "Prompt"), models.map((name) => h("th", {}, name)), h("th"));
  return [h("div", { className: "scroll" }, h("table", {}, head, cells)), under];
}

// Two pictures of one seed on top of each other; the line between them follows the slider.
function slider(left, right) {
  const over = h("div", { className: "over" }, h("img", { src: image(left.id), alt: left.label }));
  const box = h("div", { className: "slider" }, h("img", { src: image(right.id), alt: right.label }), over);
  const move = (share) => {
    over.style.width = `${share}%`;
    over.style.setProperty("--full", `${box.clientWidth}px`);
  };
  const range = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "How much of the left", oninput: (event) => move(event.target.value) });
  requestAnimationFrame(() => move(50));
  return h("div", {}, h("h2", {}, `${left.label} | ${right.label}`), box, range);
}
