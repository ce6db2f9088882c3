// A job's pictures as labelled tables: a comparison's models, an X/Y/Z plot's axes.

import { image } from "./api.js";
import { h } from "./dom.js";

// One element for each table; `end` adds a cell to each row from its pictures.
export function tables(job, end = null) {
  return job.tables.map((table) => {
    const wide = table.columns.length;
    const rows = table.rows.map((label, place) => {
      const pictures = job.pictures.slice(table.first + place * wide, table.first + (place + 1) * wide);
      return h("tr", {}, table.rows.some(Boolean) ? h("th", { scope: "row" }, label) : null, pictures.map(cell),
        end ? h("td", {}, end(pictures)) : null);
    });
    const head = h("tr", {}, table.rows.some(Boolean) ? h("td") : null, table.columns.map((label) => h("th", { scope: "col" }, label)), end ? h("td") : null);
    return h("div", { className: "scroll", tabIndex: 0, role: "region", "aria-label": table.title || "Pictures" },
      h("table", { className: "sheet" }, table.title ? h("caption", {}, table.title) : null, h("thead", {}, head), h("tbody", {}, rows)));
  });
}

function cell(each) {
  if (!each.id) return h("td", {}, h("span", { className: "note" }, each.state));
  return h("td", {}, h("figure", {},
    h("a", { href: image(each.id), target: "_blank", "aria-label": `Open ${each.label}` },
      h("img", { src: image(each.id), alt: each.label, loading: "lazy", title: each.infotext ?? "" }))));
}

export const sheetLink = (job) =>
  h("a", { className: "button", href: `/api/v1/jobs/${job.id}/sheet`, download: `brushwork-${job.id.slice(0, 8)}.png` },
    job.tables.length ? "Save the labelled grid" : "Save as one picture");
