// Vote: blind pairs of a run's pictures, for whoever has the address; the count of what people said.

import { get, send } from "./api.js";
import { h, toast } from "./dom.js";

export async function show(page) {
  const [votes, runs] = await Promise.all([get("/votes"), get("/runs")]);
  const without = runs.filter((run) => run.status === "done" && !votes.some((vote) => vote.name === run.name));
  const make = async (run) => {
    try {
      await send("/votes", { run });
      await show(page);
    } catch (error) {
      toast(error.message);
    }
  };
  const address = (name, part) => `/api/v1/votes/${encodeURIComponent(name)}/${part}`;
  const rows = votes.map((vote) =>
    h("tr", {},
      h("td", {}, vote.name),
      h("td", { className: "number" }, `${vote.pairs} pairs`),
      h("td", { className: "number" }, vote.raters === 1 ? "1 rater" : `${vote.raters} raters`),
      h("td", {}, h("a", { href: address(vote.name, "page/"), target: "_blank" }, "Vote")),
      h("td", {}, h("a", { href: address(vote.name, "results"), target: "_blank" }, "Count"))));
  page.replaceChildren(
    h("section", { className: "card" },
      h("h2", {}, "Votes"),
      h("p", { className: "note" }, "Base and tuned side by side, without a word which is which. Each rater gives a name or a code; several raters and repeated pairs say how far the votes can be trusted."),
      rows.length ? h("div", { className: "scroll" }, h("table", {}, rows)) : h("p", { className: "note" }, "None yet.")),
    h("section", { className: "card" },
      h("h2", {}, "Make one"),
      without.length
        ? h("div", { className: "buttons" }, without.map((run) => h("button", { type: "button", onclick: () => make(run.name) }, run.name)))
        : h("p", { className: "note" }, "There is no finished run without a vote. ", h("a", { href: "#train" }, "Train"), " one.")));
}
