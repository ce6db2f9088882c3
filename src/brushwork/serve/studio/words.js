// Adapters and embeddings as words of the prompt: several at once, each with its weight.

import { button, h, select, toast } from "./dom.js";

export function words(form, adapters, embeddings) {
  const known = [
    ...adapters.map((each) => [`<lora:${each.name}:1>`, `${each.name}, adapter`]),
    ...embeddings.map((each) => [each.name, `${each.name}, embedding`]),
  ];
  if (!known.length) return null;
  const list = select([["", "Adapter or embedding \u2026"], ...known], "", { "aria-label": "Adapter or embedding" });
  const put = (name) => button(name === "prompt" ? "Into the prompt" : "Into the negative", () => {
    if (!list.value) return toast("Choose one first.");
    const text = form.elements[name];
    text.value = [text.value.trim(), list.value].filter(Boolean).join(" ");
    text.dispatchEvent(new Event("input", { bubbles: true }));
  });
  return h("div", { className: "row styles" }, list, put("prompt"), embeddings.length ? put("negative_prompt") : null);
}
