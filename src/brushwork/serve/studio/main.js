// The studio: one page, its parts by the address's fragment, all state in the server's jobs and runs.

import { get } from "./api.js";
import { h, plural, toast } from "./dom.js";
import * as compare from "./compare.js";
import * as data from "./data.js";
import * as generate from "./generate.js";
import * as runs from "./runs.js";
import * as train from "./train.js";
import * as vote from "./vote.js";

const PAGES = { generate, compare, train, data, vote, runs };
const TITLES = { generate: "Generate", compare: "Compare", train: "Train", data: "Data", vote: "Vote", runs: "Runs" };

let leave = null;
let shown = 0;

async function show() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const chosen = name in PAGES ? name : "generate";
  const mine = ++shown;
  document.title = `${TITLES[chosen]} · brushwork studio`;
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
    const left = await PAGES[chosen].show(page, rest.map(decodeURIComponent));
    if (mine === shown) leave = left;
    else left?.();  // another page was chosen meanwhile
  } catch (error) {
    page.replaceChildren(h("p", { className: "bad" }, error.message));
  }
}

async function health() {
  const said = document.getElementById("health");
  try {
    const { jobs, training, waiting } = await get("/status");
    const busy = [
      jobs ? plural(jobs, "job") + " in work" : null,
      training ? `training${waiting ? `, ${waiting} waiting` : ""}` : null,
    ].filter(Boolean);
    said.textContent = busy.join(", ") || "idle";
  } catch {
    said.textContent = "the server does not answer";
  }
}

addEventListener("hashchange", show);
addEventListener("unhandledrejection", (event) => toast(event.reason?.message ?? event.reason));
addEventListener("finished", health);
setInterval(health, 4000);
health();
show();
