// The studio: one page, its parts by the address's fragment, all state in the server's jobs and runs.

import { get } from "./api.js";
import { h, toast } from "./dom.js";
import * as compare from "./compare.js";
import * as data from "./data.js";
import * as generate from "./generate.js";
import * as runs from "./runs.js";
import * as train from "./train.js";
import * as vote from "./vote.js";

const PAGES = { generate, compare, train, data, vote, runs };
const TITLES = { generate: "Generate", compare: "Compare", train: "Train", data: "Data", vote: "Vote", runs: "Runs" };

let leave = null;

async function show() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const chosen = name in PAGES ? name : "generate";
  leave?.();
  leave = null;
  document.getElementById("tabs").replaceChildren(
    ...Object.entries(TITLES).map(([each, title]) =>
      h("a", { href: `#${each}`, "aria-current": each === chosen ? "page" : null }, title),
    ),
  );
  const page = document.getElementById("page");
  page.replaceChildren(h("p", { className: "note" }, "…"));
  try {
    leave = await PAGES[chosen].show(page, rest.map(decodeURIComponent));
  } catch (error) {
    page.replaceChildren(h("p", { className: "bad" }, error.message));
  }
}

async function health() {
  const said = document.getElementById("health");
  try {
    const jobs = await get("/jobs?limit=50");
    const busy = jobs.filter((job) => ["queued", "running"].includes(job.state)).length;
    said.textContent = busy ? `${busy} ${busy === 1 ? "job" : "jobs"} in work` : "idle";
  } catch {
    said.textContent = "the server does not answer";
  }
}

addEventListener("hashchange", show);
addEventListener("unhandledrejection", (event) => toast(event.reason?.message ?? event.reason));
setInterval(health, 4000);
health();
show();
