// Elements from data. Text is only ever set as text, so nothing that a model, a file or a caption says becomes markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list") element[name] = value;
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export function field(name, control) {
  return h("label", {}, name, control);
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

export function toast(text, good = false) {
  const element = h("div", { className: good ? "toast good" : "toast" }, String(text));
  document.getElementById("toasts").append(element);
  setTimeout(() => element.remove(), good ? 4000 : 10000);
}

// What is typed stays when the page is left: kept in this browser under a name.
export function remember(name, form) {
  const key = `brushwork.${name}`;
  const stored = JSON.parse(localStorage.getItem(key) ?? "{}");
  for (const control of form.elements) {
    if (control.name && control.name in stored && control.type !== "file") control.value = stored[control.name];
  }
  form.addEventListener("input", () => {
    const values = {};
    for (const control of form.elements) if (control.name && control.type !== "file") values[control.name] = control.value;
    localStorage.setItem(key, JSON.stringify(values));
  });
}

export function seconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 60) return `${Math.ceil(value)} s`;
  return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
}
