// A training run on the page: curve, speed, samples of base and tuned while it learns, and what to do with it.

import { follow, get, send } from "./api.js";
import { h, seconds, toast } from "./dom.js";

export const OVER = ["done", "failed", "stopped", "diverged", "interrupted"];

export function watchRun(name, place) {
  const bar = h("progress", { max: 1, value: 0 });
  const said = h("p", { className: "note" }, "Preparing …");
  const curve = h("div");
  const samples = h("div");
  const path = `/runs/${encodeURIComponent(name)}`;
  const act = (what) => send(`${path}/${what}`, {}).then(() => { if (what === "resume") watchRun(name, place); }, (error) => toast(error.message));
  const stop = h("button", { type: "button", onclick: () => act("stop") }, "Stop (it can go on later)");
  const go = h("button", { type: "button", hidden: true, onclick: () => act("resume") }, "Go on");
  place.replaceChildren(h("h2", {}, name), bar, said, h("div", { className: "buttons" }, stop, go), curve, samples);
  const steps = [];
  let total = 0;
  get(path).then((run) => { total = run.steps ?? 0; }, () => {});
  const source = follow(`${path}/events`, heard, []);
  source.onerror = () => source.close();

  async function heard(type, data) {
    if (type === "step") {
      steps.push(data);
      if (!total) total = (await get(path)).steps ?? 0;
      bar.value = total ? data.index / total : 0;
      const left = total && data.seconds ? (total - data.index) * data.seconds : null;
      said.textContent = `Step ${data.index}${total ? ` of ${total}` : ""}, loss ${data.loss.toFixed(4)}, ${data.images_per_second.toFixed(1)} images/s. ${left ? `${seconds(left)} left` : ""}`;
      if (steps.length % 5 === 0) curve.replaceChildren(chart(steps));
    }
    if (type === "state") {
      if (data.samples?.length) await draw(data.samples.at(-1));
      if (data.status === "running" && steps.length && total && steps.at(-1).index >= total) said.textContent = "Measuring what changed …";
      if (data.error && OVER.includes(data.status)) said.replaceChildren(h("span", { className: "bad" }, data.error));
      if (OVER.includes(data.status)) end(data);
    }
  }

  async function draw(step) {
    const names = await get(`${path}/samples/${step}`);
    samples.replaceChildren(h("p", { className: "note" }, `Samples at step ${step}`),
      h("div", { className: "pictures" }, names.map((each) =>
        h("figure", {}, h("img", { src: `/api/v1${path}/samples/${step}/${encodeURIComponent(each)}`, alt: each })))));
  }

  function end(data) {
    source.close();
    stop.hidden = true;
    go.hidden = data.status === "done";
    if (data.status === "done") { bar.value = 1; said.replaceChildren("Done. ", ...links(name, data.report)); }
    else if (!data.error) said.textContent = `It is ${data.status}.`;
  }
  return () => source.close();
}

export function links(name, report) {
  const path = `/api/v1/runs/${encodeURIComponent(name)}`;
  return [
    report ? h("a", { href: `${path}/report`, target: "_blank" }, "Report") : null, " ",
    h("a", { href: `#compare/${encodeURIComponent(name)}` }, "Compare"), " ",
    h("a", { href: `${path}/weights` }, "Download"),
  ].filter(Boolean);
}

// The loss, smoothed so that its course can be seen, and the held-out loss where there is one.
function chart(steps) {
  const width = 600, height = 180;
  const smooth = [];
  let mean = steps[0].loss;
  for (const step of steps) smooth.push([step.index, (mean = 0.95 * mean + 0.05 * step.loss)]);
  const held = steps.filter((step) => step.validation_loss !== undefined && step.validation_loss !== null).map((step) => [step.index, step.validation_loss]);
  const values = [...smooth, ...held].map(([, value]) => value);
  const low = Math.min(...values), high = Math.max(...values), last = steps.at(-1).index;
  const line = (points) => points.map(([x, y], place) => `${place ? "L" : "M"}${(x / last) * width} ${height - 8 - ((y - low) / (high - low || 1)) * (height - 16)}`).join("");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("class", "curve");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `loss from ${smooth[0][1].toFixed(4)} to ${smooth.at(-1)[1].toFixed(4)}`);
  for (const [points, name] of [[smooth, ""], [held, "held"]]) {
    if (!points.length) continue;
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", line(points));
    path.setAttribute("class", name);
    svg.append(path);
  }
  return h("div", {}, svg, h("p", { className: "note" }, `Loss, smoothed${held.length ? "; dashed: on held-out pictures" : ""}. ${high.toFixed(4)} to ${low.toFixed(4)}.`));
}
