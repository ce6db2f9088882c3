// Styles: named pieces of prompts, put into the prompt where everybody sees them; A1111's clients use the same.

import { get, remove, send } from "./api.js";
import { button, h, select, toast } from "./dom.js";

const put = (text, style) => (style.includes("{prompt}") ? style.replaceAll("{prompt}", text) : [text.trim(), style].filter(Boolean).join(", "));

export async function styles(form, changed) {
  const place = form.querySelector("#styles");
  const { prompt, negative_prompt: negative } = form.elements;

  async function show(chosen = "") {
    const known = await get("/styles");
    const list = select([["", known.length ? "Style …" : "No styles yet"], ...known.map((each) => each.name)], chosen, { "aria-label": "Style" });
    const use = button("Apply", () => {
      const style = known.find((each) => each.name === list.value);
      if (!style) return toast("Choose a style first.");
      prompt.value = put(prompt.value, style.prompt);
      negative.value = put(negative.value, style.negative_prompt);
      prompt.dispatchEvent(new Event("input", { bubbles: true }));
      changed();
    });
    const save = button("Save as style", async () => {
      const name = window.prompt("The style's name. {prompt} in the text stands for the prompt it is applied to.", list.value)?.trim();
      if (!name) return;
      await send(`/styles/${encodeURIComponent(name)}`, { prompt: prompt.value, negative_prompt: negative.value }, "PUT");
      await show(name);
    });
    const drop = button("Remove", async () => {
      if (!list.value || !confirm(`Remove the style ${list.value}?`)) return;
      await remove(`/styles/${encodeURIComponent(list.value)}`);
      await show();
    }, { hidden: !known.length });
    place.replaceChildren(h("div", { className: "row styles" }, list, use, save, drop));
  }
  await show();
}
