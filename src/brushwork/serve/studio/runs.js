// Runs: the history of training, with reports, downloads and what was measured.

import { get } from "./api.js";
import { h } from "./dom.js";
import { OVER, links, watchRun } from "./run.js";

export async function show(page, [chosen]) {
  const runs = await get("/runs");
  const detail = h("section", { className: "card" }, h("p", { className: "note" }, "Choose a run."));
  let close = null;
  const rows = runs.map((run) =>
    h("tr", {},
      h("td", {}, h("a", { href: `#runs/${encodeURIComponent(run.name)}` }, run.name)),
      h("td", {}, run.method ?? ""), h("td", {}, run.data ?? ""),
      h("td", {}, run.status), h("td", { className: "number" }, run.steps ? `${run.step} / ${run.steps}` : ""),
      h("td", {}, run.status === "done" ? links(run.name, run.report) : null)));
  const head = h("tr", {}, ["Run", "Method", "Data", "Status", "Step", ""].map((each) => h("th", {}, each)));
  page.replaceChildren(
    h("section", { className: "card" }, h("h2", {}, "Runs"),
      runs.length ? h("div", { className: "scroll" }, h("table", {}, head, rows)) : h("p", { className: "note" }, "None yet: ", h("a", { href: "#train" }, "train"), " one.")),
    detail);
  if (chosen) {
    const run = await get(`/runs/${encodeURIComponent(chosen)}`);
    if (OVER.includes(run.status)) detail.replaceChildren(h("h2", {}, run.name), ...measured(run));
    else close = watchRun(chosen, detail);
  }
  return () => close?.();
}

function measured(run) {
  const rows = (run.metrics ?? []).map((each) =>
    h("tr", {}, h("td", {}, each.name), h("td", {}, `${each.prompt_set}, ${each.of}`),
      h("td", { className: "number" }, each.value === null ? "" : each.value.toFixed(4)),
      h("td", { className: "number" }, each.interval ? `${each.interval[0].toFixed(4)} to ${each.interval[1].toFixed(4)}` : ""),
      h("td", { className: "number" }, each.p === null || each.p === undefined ? "" : each.p.toPrecision(2)),
      h("td", { className: "number" }, each.n)));
  const head = h("tr", {}, ["Metric", "Of", "Value", "95 %", "p", "n"].map((each) => h("th", {}, each)));
  return [
    run.error ? h("p", { className: "bad" }, run.error) : null,
    h("p", {}, ...links(run.name, run.report)),
    rows.length ? h("div", { className: "scroll" }, h("table", {}, head, rows)) : h("p", { className: "note" }, "Nothing was measured."),
  ].filter(Boolean);
}
