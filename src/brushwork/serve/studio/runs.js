// Runs: the history of training, with reports, downloads and what was measured; and what takes room.

import { get, remove } from "./api.js";
import { chart } from "./chart.js";
import { button, bytes, h, plural, toast } from "./dom.js";
import { OVER, growth, links, watchRun } from "./run.js";

export async function show(page, [chosen]) {
  const [runs, storage] = await Promise.all([get("/runs"), get("/storage")]);
  const picked = chosen ?? runs.find((run) => run.status === "done")?.name;
  const detail = h("section", { className: "card" }, h("p", { className: "note" }, "Choose a run."));
  let close = null;
  const rows = runs.map((run) =>
    h("tr", { className: run.name === picked ? "chosen" : "" },
      h("td", {}, h("a", { href: `#runs/${encodeURIComponent(run.name)}`, "aria-current": run.name === picked ? "true" : null }, run.name)),
      h("td", {}, run.method ?? ""), h("td", {}, run.data ?? ""),
      h("td", {}, h("span", { className: `chip ${run.status}` }, run.status)), h("td", { className: "number" }, run.steps ? `${run.step} / ${run.steps}` : "")));
  const head = h("thead", {}, h("tr", {}, ["Run", "Method", "Data", "Status", "Step"].map((each) => h("th", { scope: "col", className: each === "Step" ? "number" : "" }, each))));
  page.replaceChildren(
    h("section", { className: "card" }, h("h2", {}, "Runs"),
      runs.length ? h("div", { className: "scroll" }, h("table", {}, head, h("tbody", {}, rows))) : h("p", { className: "note" }, "None yet: ", h("a", { href: "#train" }, "train"), " one.")),
    ...(runs.length ? [detail] : []), room(storage));
  if (picked) {
    const run = await get(`/runs/${encodeURIComponent(picked)}`);
    if (run.status === "done") detail.replaceChildren(...(await measured(run)));
    else if (run.status === "broken") detail.replaceChildren(h("h2", {}, run.name), h("p", { className: "bad" }, run.error));
    else close = watchRun(picked, detail);
  }
  return () => close?.();
}

async function measured(run) {
  const samples = growth(run.name);
  const steps = await get(`/runs/${encodeURIComponent(run.name)}/steps`);
  if (run.samples.length) samples.show(run.samples).catch((error) => toast(error.message));
  return [
    h("h2", {}, run.name),
    run.error ? h("p", { className: "bad" }, run.error) : null,
    h("p", { className: "note" }, `${run.method} on ${run.base}, with ${run.data}, ${plural(run.steps, "step")}.`),
    h("div", { className: "buttons" }, links(run.name, run.report)),
    h("div", { className: "halves" }, steps.length ? chart(steps, run.steps) : null, samples.element),
    ...numbers(run.metrics ?? []),
  ].filter(Boolean);
}

const value = (each) => (each === null || each === undefined ? "" : each.toFixed(4));
const range = (each) => (each?.interval ? `${value(each.interval[0])} to ${value(each.interval[1])}` : "");
const chance = (each) => (each?.p === null || each?.p === undefined ? "" : each.p.toPrecision(2));
const table = (heads, rows) => h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": "What was measured" }, h("table", {},
  h("thead", {}, h("tr", {}, heads.map((each, place) => h("th", { scope: "col", className: place > 1 ? "number" : "" }, each)))),
  h("tbody", {}, rows.map((row) => h("tr", {}, row.map((each, place) => h("td", { className: place > 1 ? "number" : "" }, each)))))));

// What was measured: base and tuned beside one another where there are both, the rest below.
function numbers(metrics) {
  if (!metrics.length) return [h("p", { className: "note" }, "Nothing was measured.")];
  const groups = Map.groupBy(metrics, (each) => `${each.name} ${each.prompt_set}`);
  const pairs = [...groups.values()].map((group) => Object.fromEntries(group.map((each) => [each.of, each]))).filter((group) => group.base && group.tuned);
  const paired = new Set(pairs.flatMap((group) => [group.base, group.tuned, group.difference]));
  const rest = metrics.filter((each) => !paired.has(each));
  return [
    h("h2", {}, "What changed"),
    table(["Metric", "Prompts", "Base", "Tuned", "Difference", "95 %", "p", "n"], pairs.map(({ base, tuned, difference }) =>
      [base.name, base.prompt_set, value(base.value), value(tuned.value), value(difference?.value), range(difference), chance(difference), String(tuned.n ?? "")])),
    rest.length ? h("details", { className: "more" }, h("summary", {}, `${plural(rest.length, "more number")}`),
      table(["Metric", "Of", "Value", "95 %", "p", "n"], rest.map((each) => [each.name, `${each.prompt_set}, ${each.of}`, value(each.value), range(each), chance(each), String(each.n ?? "")]))) : null,
  ].filter(Boolean);
}

// What takes room on the server, and for how long it stays.
function room(storage) {
  const { pictures, uploads, datasets, exports, keep, limits } = storage;
  const clear = button("Remove them", async () => {
    const { removed } = await remove("/storage/uploads");
    toast(`${plural(removed, "picture is", "pictures are")} removed.`, true);
    clear.closest("tr").remove();
  });
  const row = (name, much, stays, act = null) => h("tr", {}, h("td", {}, name), h("td", { className: "number" }, much), h("td", { className: "note" }, stays, act));
  const sent = bytes(keep.bytes);
  return h("section", { className: "card" }, h("h2", {}, "Room on the server's disk"), h("div", { className: "scroll" }, h("table", {}, h("tbody", {},
    row("Drawn pictures", `${plural(pictures.count, "picture")}, ${bytes(pictures.bytes)}`, `beyond ${keep.pictures ? `${keep.pictures} pictures or ` : ""}${sent} the oldest go`),
    row("Pictures that were sent", `${plural(uploads.count, "picture")}, ${bytes(uploads.bytes)}`, "stay as long as a job that uses them"),
    uploads.unused ? row("of these unused", `${plural(uploads.unused, "picture")}, ${bytes(uploads.unused_bytes)}`, `go after ${plural(keep.uploads_hours, "hour")} `, clear) : null,
    row("Data sets", bytes(datasets.bytes), `at most ${bytes(limits.datasets)}; ${keep.datasets_days ? `untouched and unused ones go after ${plural(keep.datasets_days, "day")}` : "removed on the Data page only"}`),
    row("Exported files", bytes(exports.bytes), `go after ${plural(keep.exports_hours, "hour")}, and can be made again`)))));
}
