// Vote: blind pairs of a run's pictures, for whoever has the address; the count of what people said.

import { get, send } from "./api.js";
import { button, h, plural } from "./dom.js";

export async function show(page, [wanted]) {
  const [votes, runs] = await Promise.all([get("/votes"), get("/runs")]);
  const without = runs.filter((run) => run.status === "done" && !votes.some((vote) => vote.name === run.name));
  without.sort((a, b) => (b.name === wanted) - (a.name === wanted));
  const make = async (run) => { await send("/votes", { run }); await show(page, [wanted]); };
  const address = (name, part) => `/api/v1/votes/${encodeURIComponent(name)}/${part}`;
  const rows = votes.map((vote) =>
    h("tr", { className: vote.name === wanted ? "chosen" : "" },
      h("td", {}, vote.name),
      h("td", { className: "number" }, plural(vote.pairs, "pair")),
      h("td", { className: "number" }, plural(vote.raters, "rater")),
      h("td", {}, h("div", { className: "buttons" },
        h("a", { className: "button main", href: address(vote.name, "page/"), target: "_blank" }, "Vote"),
        vote.raters ? h("a", { className: "button", href: address(vote.name, "results"), target: "_blank" }, "Count")
          : h("span", { className: "note" }, "nobody voted yet")))));
  page.replaceChildren(
    h("section", { className: "card" },
      h("h2", {}, "Votes"),
      h("p", { className: "note" }, "Base and tuned side by side, without a word which is which. Each rater gives a name or a code; several raters and repeated pairs say how far the votes can be trusted. Send the address behind Vote to whoever may reach this server."),
      rows.length ? h("div", { className: "scroll" }, h("table", {}, h("tbody", {}, rows))) : h("p", { className: "note" }, "None yet.")),
    h("section", { className: "card" },
      h("h2", {}, "Make one"),
      without.length
        ? [h("p", { className: "note" }, "Choose a run: its prompts by the base and by what was trained become the pairs."), h("div", { className: "buttons" }, without.map((run) => button(run.name, () => make(run.name), { className: run.name === wanted ? "main" : "" })))]
        : h("p", { className: "note" }, "There is no finished run without a vote. ", h("a", { href: "#train" }, "Train"), " one.")));
}
