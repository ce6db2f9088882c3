// Data: data sets as contact sheets; drop pictures in, write captions or let the captioner propose them, take pictures out.

import { call, get, remove, send, upload } from "./api.js";
import { field, h, toast } from "./dom.js";

export async function show(page, [chosen]) {
  const datasets = await get("/datasets");
  const list = h("section", { className: "card" }, h("h2", {}, "Data sets"),
    h("table", {}, datasets.map((each) =>
      h("tr", {}, h("td", {}, h("a", { href: `#data/${encodeURIComponent(each.name)}` }, each.name)),
        h("td", { className: "number" }, each.pictures), h("td", {}, each.embedded ? "embedded" : "yours")))),
    maker());
  const sheet = h("section", { className: "card" });
  page.replaceChildren(h("div", { className: "two" }, list, sheet));
  if (chosen) await open(sheet, chosen, datasets.find((each) => each.name === chosen)?.embedded);
  else sheet.replaceChildren(h("p", { className: "note" }, "Choose a data set, or make one."));
}

function maker() {
  const name = h("input", { name: "name", required: true, pattern: "[A-Za-z0-9][A-Za-z0-9 _.\\-]{0,63}", placeholder: "holiday" });
  const files = h("input", { type: "file", name: "files", multiple: true, accept: "image/png,image/jpeg,image/webp,text/plain,.txt" });
  const form = h("form", {}, h("h2", {}, "New"), field("Name", name),
    field("Pictures, and text files of the same names as their captions", files), h("button", { className: "main" }, "Put in"));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    await put(name.value, [...files.files]);
    location.hash = `#data/${encodeURIComponent(name.value)}`;
  });
  return form;
}

// Captions come along as text files of the same name, as every training tool writes them.
async function put(name, files) {
  const stem = (file) => file.name.replace(/\.[^.]*$/, "");
  const captions = new Map();
  for (const file of files.filter((each) => each.name.endsWith(".txt"))) captions.set(stem(file), await file.text());
  let done = 0;
  for (const file of files.filter((each) => !each.name.endsWith(".txt"))) {
    try {
      await upload(`/datasets/${encodeURIComponent(name)}`, file, { caption: captions.get(stem(file)) ?? "" });
      done += 1;
    } catch (error) {
      toast(`${file.name}: ${error.message}`);
    }
  }
  toast(`${done} pictures are in ${name}.`, true);
}

async function open(sheet, name, embedded) {
  const path = `/datasets/${encodeURIComponent(name)}`;
  const items = await get(path);
  const bare = items.filter((each) => !each.caption).length;
  const drop = h("div", { className: "drop" }, "Drop pictures here to add them.");
  drop.addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", async (event) => {
    event.preventDefault();
    await put(name, [...event.dataTransfer.files]);
    await open(sheet, name, embedded);
  });
  sheet.replaceChildren(
    h("h2", {}, name),
    h("p", { className: "note" }, `${items.length} pictures${bare ? `, ${bare} without a caption` : ""}.`),
    h("div", { className: "buttons" },
      h("a", { href: `#train/${encodeURIComponent(name)}` }, "Train on it"),
      embedded ? null : h("button", { type: "button", onclick: captionAll }, `Caption the ${bare} without`),
      embedded ? null : h("button", { type: "button", onclick: removeAll }, "Remove the data set")),
    embedded ? null : drop,
    h("div", { className: "pictures" }, items.map((each) => cell(path, each, embedded))));

  async function captionAll() {
    for (const each of items.filter((item) => !item.caption)) {
      const found = await call(`${path}/${encodeURIComponent(each.picture)}/caption`, { method: "POST" });
      await send(`${path}/${encodeURIComponent(each.picture)}`, found, "PUT");
    }
    await open(sheet, name, embedded);
  }

  async function removeAll() {
    if (!confirm(`Remove ${name} with its ${items.length} pictures?`)) return;
    await remove(path);
    location.hash = "#data";
  }
}

function cell(path, each, embedded) {
  const own = `${path}/${encodeURIComponent(each.picture)}`;
  const text = h("textarea", { value: each.caption, rows: 2, disabled: embedded, "aria-label": `Caption of ${each.picture}`,
    onchange: (event) => send(own, { caption: event.target.value }, "PUT").catch((error) => toast(error.message)) });
  const figure = h("figure", {},
    h("img", { src: `/api/v1${own}`, alt: each.caption || each.picture, loading: "lazy" }), h("figcaption", {}, text));
  if (!embedded) {
    const propose = async () => {
      text.value = (await call(`${own}/caption`, { method: "POST" })).caption;
      await send(own, { caption: text.value }, "PUT");
    };
    const drop = () => remove(own).then(() => figure.remove(), (error) => toast(error.message));
    figure.append(h("div", { className: "buttons" },
      h("button", { type: "button", onclick: propose }, "Propose"), h("button", { type: "button", onclick: drop }, "Take out")));
  }
  return figure;
}
