// Data: data sets as contact sheets; put pictures in, write captions or let the captioner propose them, take pictures
// out, turn or cut them; what the report finds, with its pictures, stands above.

import { call, get, remove, send, upload } from "./api.js";
import { crop } from "./crop.js";
import { button, bytes, drops, field, h, plural, toast } from "./dom.js";
import { put, sorted, told } from "./files.js";
import { findings } from "./findings.js";

const AT_ONCE = 120;  // cells of the contact sheet before one has to ask for more

export async function show(page, [chosen]) {
  const [datasets, storage] = await Promise.all([get("/datasets"), get("/storage")]);
  const own = datasets.filter((each) => !each.embedded);
  const row = (each) => h("tr", { className: each.name === chosen ? "chosen" : "" },
    h("td", {}, h("a", { href: `#data/${encodeURIComponent(each.name)}` }, each.name)),
    h("td", { className: "number" }, each.pictures), h("td", { className: "note" }, each.embedded ? "comes along" : "yours"));
  const list = h("section", { className: "card" }, h("h2", {}, "Data sets"),
    h("table", {}, h("thead", {}, h("tr", {}, ["Name", "Pictures", ""].map((each) => h("th", { scope: "col", className: each === "Pictures" ? "number" : "" }, each)))), h("tbody", {}, own.map(row), datasets.filter((each) => each.embedded).map(row))),
    h("p", { className: "note" }, `Yours take ${bytes(storage.datasets.bytes)} of ${bytes(storage.limits.datasets)}.`,
      storage.keep.datasets_days ? ` One that nobody touches or trains on is removed after ${plural(storage.keep.datasets_days, "day")}.` : ""));
  const sheet = h("section", { className: "card" });
  page.replaceChildren(h("div", { className: "two" }, h("div", {}, h("section", { className: "card" }, maker()), list), h("div", {}, sheet)));
  if (chosen) await open(sheet, chosen, datasets.find((each) => each.name === chosen)?.embedded);
  else sheet.replaceChildren(h("h2", {}, "Pictures"), h("p", { className: "note" }, own.length ? "Choose a data set on the left." : "Nothing of yours is here yet: drop a folder of pictures on the left. To look around, choose one that comes along."));
}

function maker() {
  let found = null;
  const name = h("input", { name: "name", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9 _.\\-]{0,63}", placeholder: "holiday", title: "Letters, digits, spaces, dots, dashes and underscores" });
  const folder = h("input", { type: "file", name: "folder", className: "unseen", multiple: true, webkitdirectory: true });
  const files = h("input", { type: "file", name: "files", className: "unseen", multiple: true, accept: "image/png,image/jpeg,image/webp,.txt,.caption,.jsonl,.csv" });
  const said = h("p", { className: "note", role: "status" }, "Captions come along from text files of the same names, or a metadata.jsonl or .csv.");
  const progress = h("div");
  const main = h("button", { className: "main", disabled: true }, "Put in");
  async function chosen(given, called = "") {
    found = await sorted(given);
    said.textContent = told(found);
    main.disabled = !found.pictures.length;
    const suggested = called.replace(/[^A-Za-z0-9 _.-]/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64);
    if (!name.value && suggested) name.value = suggested;
  }
  const top = (file) => (file?.webkitRelativePath ?? "").split("/").slice(0, -1)[0] ?? "";
  folder.addEventListener("change", () => chosen([...folder.files], top(folder.files[0])).catch((error) => toast(error.message)));
  files.addEventListener("change", () => chosen([...files.files]).catch((error) => toast(error.message)));
  const drop = h("div", { className: "drop" }, h("p", {}, "Drop a folder or pictures here"),
    h("div", { className: "buttons" }, h("label", { className: "button" }, "Choose a folder", folder), h("label", { className: "button" }, "Choose pictures", files)));
  drops(drop, (given) => chosen(given));
  const form = h("form", {}, h("h2", {}, "Put pictures in"), drop, said, field("Name of the data set, new or there", name), progress,
    h("div", { className: "buttons" }, main));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (files.files.length && !found) await chosen([...files.files]);
    main.disabled = true;
    const done = await put(name.value, found, progress);
    main.disabled = false;
    const address = `#data/${encodeURIComponent(name.value)}`;
    if (done && location.hash === address) dispatchEvent(new HashChangeEvent("hashchange"));
    else if (done) location.hash = address;
  });
  return form;
}

async function open(sheet, name, embedded) {
  const path = `/datasets/${encodeURIComponent(name)}`;
  const items = await get(path);
  const bare = items.filter((each) => !each.caption).length;
  const again = () => open(sheet, name, embedded);
  const cells = h("div", { className: "pictures" });
  const rest = h("div", { className: "buttons" });
  let only = null;
  function fill(all = AT_ONCE) {
    const wanted = only ? items.filter((each) => only.has(each.picture)) : items;
    cells.replaceChildren(...wanted.slice(0, all).map((each) => cell(path, each, embedded, again)));
    rest.replaceChildren(...[
      only ? button("Show all pictures", () => { only = null; fill(); }) : null,
      wanted.length > all ? button(`Show ${Math.min(AT_ONCE, wanted.length - all)} more of ${wanted.length}`, () => fill(all + AT_ONCE)) : null,
    ].filter(Boolean));
  }
  const report = findings(path, name, embedded, {
    again, captionAll,
    only: (pictures) => { only = new Set(pictures); fill(); cells.scrollIntoView({ behavior: "smooth", block: "nearest" }); },
    takeOut: (pictures) => takeOut(path, pictures),
  });
  const progress = h("div");
  const write = button(`Let the captioner write the ${bare} missing`, captionAll, { hidden: embedded || !bare });
  fill();
  sheet.replaceChildren(
    h("h2", {}, name),
    h("p", { className: "note" }, `${plural(items.length, "picture")}${bare ? `, ${bare} without a caption` : ", each with a caption"}.`),
    h("div", { className: "buttons" },
      h("a", { className: "button main", href: `#train/${encodeURIComponent(name)}` }, "Train on it"), write,
      embedded ? null : button("Remove the data set", removeAll)),
    progress, report, embedded ? h("p", { className: "note" }, "It comes with brushwork and stays as it is.") : words(path, items, again), cells, rest);

  async function captionAll() {
    const bar = h("progress", { max: bare, value: 0, "aria-label": "Captions that are written" });
    progress.replaceChildren(bar);
    for (const each of items.filter((item) => !item.caption)) {
      const own = `${path}/${encodeURIComponent(each.picture)}`;
      await send(own, await call(`${own}/caption`, { method: "POST" }), "PUT");
      bar.value += 1;
    }
    await again();
  }

  async function removeAll() {
    if (!confirm(`Remove ${name} with its ${plural(items.length, "picture")}?`)) return;
    await remove(path);
    location.hash = "#data";
  }
}

// All captions at once: a word that is to be learnt in front of each, or one word for another.
function words(path, items, again) {
  const [before, from, to] = ["before", "from", "to"].map((name) => h("input", { name }));
  const apply = button("Change all captions", async () => {
    const changed = items.map((each) => [each, `${before.value}${from.value ? each.caption.replaceAll(from.value, to.value) : each.caption}`])
      .filter(([each, text]) => text !== each.caption);
    if (!changed.length) return toast("No caption would change.");
    if (!confirm(`Change ${plural(changed.length, "caption")}? The first becomes: ${changed[0][1]}`)) return;
    for (const [each, caption] of changed) await send(`${path}/${encodeURIComponent(each.picture)}`, { caption }, "PUT");
    await again();
  });
  return h("details", { className: "more" }, h("summary", {}, "All captions at once"),
    h("div", { className: "fields" }, field("Put in front", before), field("Replace", from), field("by", to)), h("div", { className: "buttons" }, apply));
}

// Pictures taken out can be put back as long as the message is there.
async function takeOut(path, pictures) {
  const items = new Map((await get(path)).map((each) => [each.picture, each.caption]));
  const kept = [];
  for (const picture of pictures.filter((each) => items.has(each))) {
    const own = `${path}/${encodeURIComponent(picture)}`;
    kept.push([await (await fetch(`/api/v1${own}`)).blob(), items.get(picture)]);
    await remove(own);
  }
  const back = async () => {
    for (const [blob, caption] of kept) await upload(path, blob, { caption });
    dispatchEvent(new HashChangeEvent("hashchange"));
  };
  toast(`${plural(kept.length, "picture is", "pictures are")} out.`, true, { text: "Put back", work: back });
}

function cell(path, each, embedded, again) {
  const own = `${path}/${encodeURIComponent(each.picture)}`;
  const text = h("textarea", { value: each.caption, rows: 2, disabled: embedded, placeholder: "no caption", "aria-label": `Caption of ${each.picture}`,
    onchange: (event) => send(own, { caption: event.target.value }, "PUT").catch((error) => toast(error.message)) });
  const figure = h("figure", {},
    h("a", { href: `/api/v1${own}`, target: "_blank", "aria-label": `Open ${each.picture}` },
      h("img", { className: "square", src: `/api/v1${own}`, alt: each.caption || each.picture, loading: "lazy" })), h("figcaption", {}, text));
  if (!embedded) {
    const propose = async () => {
      text.value = (await call(`${own}/caption`, { method: "POST" })).caption;
      await send(own, { caption: text.value }, "PUT");
    };
    const cut = async () => {
      const asked = await crop(`/api/v1${own}`);
      if (!asked) return;
      await send(`${own}/change`, asked);
      await again();
    };
    figure.append(h("div", { className: "buttons" }, button("Propose", propose, { title: "Let the captioner say what is on it" }),
      button("Turn, cut", cut), button("Take out", async () => { await takeOut(path, [each.picture]); figure.remove(); })));
  }
  return figure;
}
