// A training run on the page: curve, speed, samples while it learns, and what to do with it.

import { follow, get, send } from "./api.js";
import { chart } from "./chart.js";
import { button, h, plural, seconds, toast } from "./dom.js";
import { exporting } from "./export.js";

export const OVER = ["done", "failed", "stopped", "diverged", "interrupted", "broken"];

export function watchRun(name, place, changed = () => {}) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Steps that are done" });
  const said = h("p", { className: "note", role: "status" }, "Preparing …");
  const curve = h("div");
  const samples = growth(name);
  const path = `/runs/${encodeURIComponent(name)}`;
  const stop = button("Stop (it can go on later)", () => send(`${path}/stop`, {}));
  const go = button("Go on", async () => {
    const { position } = await send(`${path}/resume`, {});
    if (position) toast(`It waits: ${plural(position, "run is", "runs are")} before it.`, true);
    begin();
    changed();
  }, { hidden: true, className: "main" });
  const steps = [];
  let total = 0;
  let source = null;
  place.replaceChildren(h("h2", {}, name), bar, h("div", { className: "row" }, said, h("div", { className: "buttons" }, stop, go)), curve, samples.element);

  function begin() {
    source?.close();
    steps.length = 0;
    stop.hidden = false;
    go.hidden = true;
    get(path).then((run) => { total = run.steps ?? 0; }, () => {});
    source = follow(`${path}/events`, heard, []);
  }

  async function heard(type, data) {
    if (type === "step") {
      if (steps.length && data.index <= steps.at(-1).index) return;  // the browser asked again
      steps.push(data);
      if (!total) total = (await get(path)).steps ?? 0;
      bar.value = total ? data.index / total : 0;
      const left = total && data.seconds ? (total - data.index) * data.seconds : null;
      said.textContent = `Step ${data.index}${total ? ` of ${total}` : ""}, loss ${data.loss.toFixed(4)}, ${data.images_per_second.toFixed(1)} images/s. ${left ? `${seconds(left)} left` : ""}`;
      if (steps.length % 5 === 0 || data.index === total) curve.replaceChildren(chart(steps, total));
    }
    if (type === "state") {
      if (data.samples?.length) await samples.show(data.samples);
      if (data.status === "queued") said.textContent = `Waiting: ${plural(data.position, "run")} before it.`;
      if (data.status === "preparing") said.textContent = "Preparing: looking at the pictures, loading the base …";
      if (data.status === "running" && !steps.length) said.textContent = "Encoding the pictures, drawing the base's samples …";
      if (data.status === "running" && steps.length && total && steps.at(-1).index >= total) said.textContent = "Measuring what changed: drawing base and tuned at the same seeds …";
      if (data.error && OVER.includes(data.status)) said.replaceChildren(h("span", { className: "bad" }, data.error));
      if (OVER.includes(data.status)) end(data);
    }
  }

  function end(data) {
    source.close();
    stop.hidden = true;
    go.hidden = data.status === "done";
    if (steps.length) curve.replaceChildren(chart(steps, total));
    if (data.status === "done") {
      bar.value = 1;
      said.replaceChildren("Done. ");
      place.querySelector(".made")?.remove();
      said.parentElement.after(h("div", { className: "buttons made" }, links(name, data.report)));
    } else if (!data.error) said.textContent = data.status === "stopped" ? `Stopped${steps.length ? ` after step ${steps.at(-1).index}` : ""}; a checkpoint is written, it can go on.` : `It is ${data.status}.`;
    changed();
  }

  begin();
  return () => source.close();
}

// The samples of a run through its steps: the same prompts and seeds, moved through by a slider.
export function growth(name) {
  const path = `/runs/${encodeURIComponent(name)}`;
  const element = h("div", { className: "growth" });
  const range = h("input", { type: "range", min: 0, value: 0, "aria-label": "Step of the samples", oninput: () => draw() });
  const said = h("p", { className: "note" });
  const pictures = h("div", { className: "pictures small" });
  let steps = [];
  let prompts = null;
  async function draw() {
    const step = steps[Number(range.value)];
    prompts ??= (await get(path)).sample_prompts ?? [];
    const names = await get(`${path}/samples/${step}`);
    said.textContent = `Samples ${step === 0 ? "of the base, before the first step" : `after step ${step}`}${steps.length > 1 ? "; the slider goes through the training" : ""}`;
    pictures.replaceChildren(...names.map((each) => {
      const text = prompts[Number.parseInt(each, 10)] ?? each;
      return h("figure", {}, h("img", { src: `/api/v1${path}/samples/${step}/${encodeURIComponent(each)}`, alt: `${text}, step ${step}` }), h("figcaption", {}, text));
    }));
  }
  return {
    element,
    async show(found) {
      const last = Number(range.value) === steps.length - 1 || !steps.length;
      if (found.join() === steps.join()) return;
      steps = found;
      range.max = steps.length - 1;
      range.hidden = steps.length < 2;
      if (last) range.value = steps.length - 1;
      element.replaceChildren(said, range, pictures);
      await draw();
    },
  };
}

// What can be done with a finished run.
export function links(name, report) {
  const path = `/api/v1/runs/${encodeURIComponent(name)}`;
  const link = (text, href, more = {}) => h("a", { className: "button", href, ...more }, text);
  return [
    report ? link("Report", `${path}/report`, { target: "_blank" }) : null,
    link("Compare", `#compare/${encodeURIComponent(name)}`), link("Generate", `#generate/${encodeURIComponent(name)}`),
    link("Vote", `#vote/${encodeURIComponent(name)}`),
    link("Download", `${path}/weights`, { download: "" }), button("Export", () => exporting(name)),
  ].filter(Boolean);
}
