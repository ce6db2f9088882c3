// Compare: the same prompts and seeds by several models, as a grid, and any two of them under a slider.

import { get, image, send } from "./api.js";
import { field, h, number, remember, select, toast } from "./dom.js";
import { watch, whole } from "./job.js";
import { tables } from "./tables.js";

export async function show(page, [first]) {
  const [models, jobs] = await Promise.all([get("/models"), get("/jobs?limit=50")]);
  const result = h("div", {}, h("p", { className: "note" }, "Nothing yet. Choose two models or more: the base beside what was tuned on it, or several checkpoints."));
  let close = null;
  const boxes = models.map((each, place) =>
    h("label", { className: "row" },
      h("input", { type: "checkbox", name: "models", value: each.name, checked: first ? [first, "mini"].includes(each.name) : place < 2 }),
      h("span", {}, each.title, each.detail ? h("small", {}, each.detail) : null)));
  const form = h("form", {},
    h("fieldset", {}, h("legend", {}, "Models"), h("div", { className: "list" }, boxes),
      models.length < 2 ? h("p", { className: "note" }, "There is only one model so far: ", h("a", { href: "#train" }, "train"), " one of your own.") : null),
    field("Prompts, one in each line", h("textarea", { name: "prompts", required: true, rows: 5, value: "a dog on a red background\na castle" })),
    h("div", { className: "fields" },
      field("Seeds of each", number(2, { name: "n", min: 1, max: 20 })),
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
      follow(id);
    } catch (error) {
      toast(error.message);
    }
  });

  function follow(id) {
    close?.();
    close = watch(id, result, (job) => result.replaceChildren(...compared(job)));
  }

  page.replaceChildren(
    h("div", { className: "two" }, h("section", { className: "card" }, h("h2", {}, "Compare"), form),
      h("section", { className: "card" }, h("h2", {}, "Side by side"), result)));
  const newest = jobs.find((job) => job.kind === "compare" && ["queued", "running", "done"].includes(job.state)
    && (!first || job.asked.models.includes(first)));
  if (newest) {
    if (newest.state === "done") result.replaceChildren(...compared(await get(`/jobs/${newest.id}`)));
    else follow(newest.id);
  }
  return () => close?.();
}

function compared(job) {
  if (job.state !== "done") return [h("p", { className: "bad" }, job.error?.message ?? "Stopped.")];
  const under = h("div");
  const slide = (row) => h("button", { type: "button", onclick: () => {
    under.replaceChildren(slider(row));
    under.scrollIntoView({ behavior: "smooth", block: "nearest" });
  } }, "Slide");
  const all = tables(job, slide);
  const wide = job.tables[0].columns.length;
  under.append(slider(job.pictures.slice(0, wide)));
  return [under, ...all, whole(job)];
}

// Two pictures of one seed on top of each other; the line between them follows the slider.
function slider(row) {
  const names = row.map((each, place) => [String(place), each.label]);
  const left = select(names, "0", { "aria-label": "On the left" });
  const right = select(names, String(row.length - 1), { "aria-label": "On the right" });
  const [above, below] = [h("img", { draggable: false }), h("img", { draggable: false })];
  const over = h("div", { className: "over" }, above);
  const box = h("div", { className: "slider" }, below, over);
  const range = h("input", { type: "range", min: 0, max: 100, value: 50, "aria-label": "How much of the left picture is seen", oninput: () => move() });
  function move() {
    over.style.width = `${range.value}%`;
    over.style.setProperty("--full", `${box.clientWidth}px`);
  }
  function put() {
    [[above, left], [below, right]].forEach(([picture, chosen]) => {
      picture.src = image(row[Number(chosen.value)].id);
      picture.alt = row[Number(chosen.value)].label;
    });
  }
  const follow = (event) => {
    if (!(event.buttons & 1)) return;
    const { left: start, width } = box.getBoundingClientRect();
    range.value = (100 * (event.clientX - start)) / width;
    move();
  };
  box.addEventListener("pointerdown", follow);
  box.addEventListener("pointermove", follow);
  left.addEventListener("change", put);
  right.addEventListener("change", put);
  new ResizeObserver(move).observe(box);
  put();
  return h("div", { className: "sliding" }, h("div", { className: "row ends" }, left, right), box, range);
}
