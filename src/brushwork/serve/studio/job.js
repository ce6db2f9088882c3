// A job on the page: its place in the queue, its progress with a preview, its pictures when they are there.

import { follow, get, image, remove } from "./api.js";
import { h, seconds, toast } from "./dom.js";

export function watch(id, place, finished = () => {}) {
  const bar = h("progress", { max: 1, value: 0 });
  const said = h("p", { className: "note" }, "Queued.");
  const preview = h("img", { alt: "preview", hidden: true });
  const stop = h("button", { type: "button", onclick: () => remove(`/jobs/${id}`).catch((e) => toast(e.message)) }, "Stop");
  const pictures = h("div", { className: "pictures" }, h("figure", {}, preview));
  place.replaceChildren(h("div", { className: "buttons" }, stop), bar, said, pictures);
  const source = follow(`/jobs/${id}/events`, heard, ["done", "failed", "cancelled"]);

  function heard(type, data) {
    if (type === "queued") said.textContent = data.position ? `Queued, ${data.position} before it.` : "Queued.";
    if (type === "loading") said.textContent = `Loading ${data.model} …`;
    if (type === "started") said.textContent = "Drawing …";
    if (type === "note") toast(data.message);
    if (type === "progress") {
      bar.value = data.progress;
      said.textContent = `Step ${data.step} of ${data.steps}. ${data.eta ? `${seconds(data.eta)} left` : ""}`;
      if (data.preview) {
        preview.src = `data:image/jpeg;base64,${data.preview}`;
        preview.hidden = false;
      }
    }
    if (["done", "failed", "cancelled"].includes(type)) end();
  }

  async function end() {
    source.close();
    const job = await get(`/jobs/${id}`);
    place.replaceChildren(...shown(job));
    finished(job);
  }
  return () => source.close();
}

export function shown(job, actions = () => []) {
  const parts = [];
  if (job.error) parts.push(h("p", { className: "bad" }, job.error.message));
  if (job.state === "cancelled") parts.push(h("p", { className: "note" }, "Stopped."));
  parts.push(...job.notes.map((note) => h("p", { className: "note" }, note)));
  parts.push(h("div", { className: "pictures" }, job.pictures.filter((each) => each.id).map((each) => picture(each, actions))));
  return parts;
}

export function picture(each, actions = () => []) {
  const text = h("pre", { hidden: true }, each.infotext ?? "");
  const toggle = h("button", { type: "button", onclick: () => (text.hidden = !text.hidden) }, "How");
  const save = h("a", { href: image(each.id), download: `brushwork-${each.seed}.png` }, "Save");
  return h(
    "figure",
    {},
    h("a", { href: image(each.id), target: "_blank" }, h("img", { src: image(each.id), alt: each.label, loading: "lazy" })),
    h("figcaption", {}, each.label),
    h("div", { className: "buttons" }, toggle, save, actions(each)),
    text,
  );
}
