// What the data report found, with its levels and what can be done about it; what repeats what, side by side.

import { get } from "./api.js";
import { button, h, plural, select, toast } from "./dom.js";

const KEY = "brushwork.resolution";
const SIZES = ["64", "256", "512", "768", "1024"];
const OUT = ["broken", "blank", "white", "text", "small"];  // kinds whose pictures are best taken out
const WORDS = { error: "error", warning: "warning", note: "note" };

// An element that fills itself. `doing`: only(pictures), takeOut(pictures), captionAll(), again().
export function findings(path, name, embedded, doing) {
  const place = h("div", { className: "findings" });
  const size = select(SIZES, localStorage.getItem(KEY) ?? "64", { "aria-label": "Pixels that it is to be trained at",
    onchange: () => { localStorage.setItem(KEY, size.value); look(); } });

  async function look() {
    place.replaceChildren(h("p", { className: "note", role: "status" }, "Looking at every picture …"));
    try {
      const report = await get(`${path}/report?resolution=${size.value}`);
      place.replaceChildren(head(report), ...report.findings.map((each) => finding(each)), ...pairs(report));
    } catch (error) {
      place.replaceChildren(h("p", { className: "bad" }, error.message));
    }
  }

  function head(report) {
    const said = { error: "Training refuses these data as they are.", warning: "Good to train on; some things deserve a look.", note: "Good to train on." };
    return h("div", { className: "row" },
      h("strong", { className: `level ${report.level ?? "fine"}` }, report.level ? said[report.level] : "Good to train on: nothing was found."),
      h("label", { className: "row" }, "for training at", size, "pixels"),
      h("a", { href: `/api/v1${path}/report/page?resolution=${size.value}`, target: "_blank" }, "The whole report"));
  }

  function finding(each) {
    const acts = [];
    if (each.pictures.length) acts.push(button("Show", () => doing.only(each.pictures)));
    if (!embedded && each.kind === "uncaptioned") acts.push(button("Let the captioner write them", doing.captionAll));
    if (!embedded && OUT.includes(each.kind) && each.pictures.length) {
      acts.push(button(`Take ${each.pictures.length === 1 ? "it" : `all ${each.pictures.length}`} out`, async () => {
        if (each.pictures.length > 1 && !confirm(`Take ${plural(each.pictures.length, "picture")} out of ${name}?`)) return;
        await doing.takeOut(each.pictures);
        await doing.again();
      }));
    }
    return h("div", { className: `finding ${each.level}` }, h("span", { className: "chip" }, WORDS[each.level]),
      h("span", {}, each.message), h("div", { className: "buttons" }, acts));
  }

  function pairs(report) {
    if (!report.duplicates.length) return [];
    const all = [...new Set(report.duplicates.map((each) => each.picture))];
    const shown = report.duplicates.slice(0, 24).map((each) => pair(each));
    const more = report.duplicates.length - shown.length;
    return [h("details", { className: "more", open: report.duplicates.length <= 6 },
      h("summary", {}, `${plural(report.duplicates.length, "pair repeats itself", "pairs repeat themselves")}, side by side`),
      embedded ? null : h("div", { className: "buttons" }, button(`Take out all ${all.length} on the right`, async () => {
        if (!confirm(`Take ${plural(all.length, "picture")} out of ${name}?`)) return;
        await doing.takeOut(all);
        await doing.again();
      })),
      h("div", { className: "pairs" }, shown), more ? h("p", { className: "note" }, `and ${more} more`) : null)];
  }

  function pair(each) {
    const side = (picture) => h("figure", {},
      h("img", { className: "square", src: `/api/v1${path}/${encodeURIComponent(picture)}`, alt: picture, loading: "lazy" }),
      embedded ? null : button("Take out", async () => { await doing.takeOut([picture]); await doing.again(); }));
    return h("div", { className: "pair" }, side(each.keep), side(each.picture),
      h("span", { className: "note" }, each.kind === "exact" ? "the same picture" : "look alike"));
  }

  look().catch((error) => toast(error.message));
  return place;
}
