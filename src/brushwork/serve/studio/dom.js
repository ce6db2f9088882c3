// Elements from data. Text is only ever set as text, so nothing that a model, a file or a caption says becomes markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list") element[name] = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return element;
}

export function field(name, control, about = null) {
  return h("label", {}, name, control, about ? h("small", {}, about) : null);
}

export function select(values, chosen, attributes = {}) {
  const options = values.map((each) => {
    const [value, text] = Array.isArray(each) ? each : [each, each];
    return h("option", { value, selected: value === chosen }, text);
  });
  return h("select", attributes, options);
}

export function number(value, attributes = {}) {
  return h("input", { type: "number", value: value ?? "", ...attributes });
}

// A button that does something once at a time; what goes wrong is said.
export function button(text, work, attributes = {}) {
  const element = h("button", { type: "button", ...attributes }, text);
  element.addEventListener("click", async (event) => {
    element.disabled = true;
    try {
      await work(event);
    } catch (error) {
      toast(error.message);
    } finally {
      element.disabled = false;
    }
  });
  return element;
}

export function toast(text, good = false, action = null) {
  const element = h("div", { className: good ? "toast good" : "toast" }, h("span", {}, String(text)));
  if (action) element.append(button(action.text, async () => { element.remove(); await action.work(); }));
  element.append(h("button", { type: "button", className: "quiet", "aria-label": "Close", onclick: () => element.remove() }, "✕"));
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), good && !action ? 4000 : 10000);
}

// What is typed stays when the page is left: kept in this browser under a name.
export function remember(name, form) {
  const key = `brushwork.${name}`;
  const stored = JSON.parse(localStorage.getItem(key) ?? "{}");
  for (const control of form.elements) {
    if (!control.name || !(control.name in stored) || control.type === "file" || control.type === "checkbox") continue;
    if (control.tagName === "SELECT" && ![...control.options].some((each) => each.value === stored[control.name])) continue;
    control.value = stored[control.name];
  }
  const keep = () => {
    const values = {};
    for (const control of form.elements) {
      if (control.name && control.type !== "file" && control.type !== "checkbox") values[control.name] = control.value;
    }
    localStorage.setItem(key, JSON.stringify(values));
  };
  form.addEventListener("input", keep);
  return keep;
}

export function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 60) return `${Math.ceil(value)} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

export function bytes(value) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let place = 0;
  while (value >= 1000 && place < units.length - 1) { value /= 1000; place += 1; }
  return `${place ? value.toPrecision(3) : value} ${units[place]}`;
}

export const plural = (count, one, many = `${one}s`) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

// A window over the page, closed by Escape. Resolves with what `close` is given, null when it was left.
export function dialog(title, build) {
  return new Promise((done) => {
    let answer = null;
    const box = h("dialog", { "aria-label": title });
    const close = (value = null) => { answer = value; box.close(); };
    box.append(h("h2", {}, title), ...build(close));
    box.addEventListener("close", () => { box.remove(); done(answer); });
    document.body.append(box);
    box.showModal();
  });
}

// What is dropped on an element: pictures, or folders with everything in them.
export function drops(element, take) {
  const over = (on) => (event) => { event.preventDefault(); element.classList.toggle("over", on); };
  element.addEventListener("dragover", over(true));
  element.addEventListener("dragleave", over(false));
  element.addEventListener("drop", async (event) => {
    over(false)(event);
    const entries = [...event.dataTransfer.items].map((each) => each.webkitGetAsEntry?.()).filter(Boolean);
    const files = [...event.dataTransfer.files];
    try {
      await take(entries.some((each) => each.isDirectory) ? (await Promise.all(entries.map(walk))).flat() : files);
    } catch (error) {
      toast(error.message);
    }
  });
}

async function walk(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return (await Promise.all(found.map(walk))).flat();
    found.push(...some);
  }
}
