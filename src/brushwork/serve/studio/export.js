// Export by clicking: a run's result as a file for another program, read back and proved before it is offered.

import { send } from "./api.js";
import { button, bytes, dialog, field, h, select } from "./dom.js";

const TARGETS = [
  ["kohya", "A1111, Forge, kohya: the adapter"], ["comfyui", "ComfyUI: the adapter"],
  ["single-file", "One checkpoint with everything in it"], ["diffusers", "diffusers: a pipeline folder, as zip"],
];

export function exporting(name) {
  const path = `/runs/${encodeURIComponent(name)}/exports`;
  return dialog("Export", (close) => {
    const to = select(TARGETS, "kohya", { name: "to" });
    const dtype = select([["", "as they are"], ["fp16", "fp16"], ["bf16", "bf16"], ["fp32", "fp32"]], "", { name: "dtype" });
    const place = h("div", { role: "status" });
    const make = button("Make the file", async () => {
      place.replaceChildren(h("p", { className: "note" }, "Writing it, reading it back, and drawing a picture with it …"));
      try {
        const made = await send(path, { to: to.value, dtype: dtype.value || null });
        place.replaceChildren(h("p", {}, `${made.what}, ${bytes(made.bytes)}. Read back, and the same.`),
          h("a", { className: "button main", href: `/api/v1${path}/${encodeURIComponent(made.file)}`, download: made.file }, "Download the file"));
      } catch (error) {
        place.replaceChildren(h("p", { className: "bad" }, error.message));
      }
    }, { className: "main" });
    return [h("p", { className: "note" }, name), field("For", to), field("Numbers", dtype),
      h("div", { className: "buttons" }, make, button("Close", () => close())), place];
  });
}
