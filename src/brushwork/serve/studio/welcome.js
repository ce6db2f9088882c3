// The way from pictures to a tuned model, for whoever is here for the first time.

import { get } from "./api.js";
import { h } from "./dom.js";

const KEY = "brushwork.welcomed";

export async function welcome() {
  if (localStorage.getItem(KEY)) return [];
  const [datasets, runs] = await Promise.all([get("/datasets"), get("/runs")]);
  if (runs.some((run) => run.status === "done")) return [];
  const own = datasets.some((each) => !each.embedded);
  const step = (number, done, title, href, text) => h("li", { className: done ? "did" : "" },
    h("span", { className: "count", "aria-hidden": "true" }, done ? "✓" : number), h("a", { href }, title), h("span", {}, text));
  const box = h("section", { className: "card welcome" },
    h("div", { className: "row" }, h("h2", {}, "Teach it something of your own"),
      h("button", { type: "button", className: "quiet", "aria-label": "Do not show this again", onclick: () => { localStorage.setItem(KEY, "1"); box.remove(); } }, "✕")),
    h("ol", { className: "steps" },
      step(1, own, "Put pictures in", "#data", "a folder, with captions or without"),
      step(2, runs.length > 0, "Train", "#train", "it says what it takes before it starts"),
      step(3, false, "Compare", "#compare", "base and tuned, same prompts and seeds"),
      step(4, false, "Vote and take it along", "#vote", "blind pairs; then export it from Runs")));
  return [box];
}
