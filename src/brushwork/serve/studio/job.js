// A job on the page: its place in the queue, its progress with a preview, its pictures when they are there.

import { follow, get, image, remove } from "./api.js";
import { h, seconds, toast } from "./dom.js";
import { sheetLink, tables } from "./tables.js";

export function watch(id, place, finished = () => {}, actions = () => []) {
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const said = h("p", { className: "note", role: "status" }, "Queued.");
  const preview = h("img", { alt: "Preview of the picture that is being drawn" });
  const shownNow = h("figure", { hidden: true }, preview);
  const stop = h("button", { type: "button", onclick: () => remove(`/jobs/${id}`).catch((e) => toast(e.message)) }, "Stop");
  const pictures = h("div", { className: "pictures" }, shownNow);
  place.replaceChildren(bar, h("div", { className: "row" }, said, stop), pictures);
  const source = follow(`/jobs/${id}/events`, heard, ["done", "failed", "cancelled"]);

  function heard(type, data) {
    if (type === "queued") said.textContent = data.position ? `Queued, ${data.position} before it.` : "Queued.";
    if (type === "loading") said.textContent = `Loading ${data.model} …`;
    if (type === "started") said.textContent = "Drawing …";
    if (type === "note") toast(data.message);
    if (type === "picture") {
      shownNow.hidden = true;
      shownNow.before(h("figure", {}, h("img", { src: image(data.id), alt: "A picture of this job that is finished" })));
    }
    if (type === "progress") {
      bar.value = data.progress;
      said.textContent = `Step ${data.step} of ${data.steps}. ${data.eta ? `${seconds(data.eta)} left` : ""}`;
      if (data.preview) {
        preview.src = `data:image/jpeg;base64,${data.preview}`;
        shownNow.hidden = false;
      }
    }
    if (["done", "failed", "cancelled"].includes(type)) end();
  }

  async function end() {
    source.close();
    const job = await get(`/jobs/${id}`);
    place.replaceChildren(...shown(job, actions));
    finished(job);
    dispatchEvent(new Event("finished"));  // what the page says of the server is old now
  }
  return () => source.close();
}

export function shown(job, actions = () => []) {
  const parts = [];
  const done = job.pictures.filter((each) => each.id);
  if (job.error) parts.push(h("p", { className: "bad" }, job.error.message));
  if (job.state === "cancelled") parts.push(h("p", { className: "note" }, done.length ? "Stopped; what was drawn by then:" : "Stopped."));
  parts.push(...job.notes.map((note) => h("p", { className: "note" }, note)));
  if (job.tables.length && done.length) parts.push(...tables(job));
  else parts.push(h("div", { className: "pictures" }, done.map((each) => picture(each, () => actions(each, job)))));
  if (done.length > 1) parts.push(whole(job));
  return parts;
}

// What can be done with all pictures of a job.
export function whole(job) {
  return h("div", { className: "buttons" }, sheetLink(job), h("a", { className: "button", href: `/api/v1/jobs/${job.id}/zip`, download: "" }, "Zip"));
}

export function picture(each, actions = () => []) {
  const text = h("pre", { hidden: true }, each.infotext ?? "");
  const toggle = h("button", { type: "button", "aria-expanded": "false", onclick: () => {
    text.hidden = !text.hidden;
    toggle.setAttribute("aria-expanded", String(!text.hidden));
  } }, "How");
  const save = h("a", { className: "button", href: image(each.id), download: `brushwork-${each.seed}.png` }, "Save");
  const more = actions();
  return h(
    "figure",
    {},
    h("a", { href: image(each.id), target: "_blank", "aria-label": `Open ${each.label}` }, h("img", { src: image(each.id), alt: each.label, loading: "lazy" })),
    h("figcaption", {}, each.label),
    h("div", { className: "buttons" }, save, toggle,
      more.length ? h("details", { className: "menu" }, h("summary", {}, "Send to"), h("div", {}, more)) : null),
    text,
  );
}
