// The native API. Every failure is an Error whose message is the server's own sentence.

const BASE = "/api/v1";

export async function call(path, options = {}) {
  const answer = await fetch(BASE + path, options);
  const text = await answer.text();
  const body = text ? JSON.parse(text) : null;
  if (!answer.ok) throw new Error(body?.error?.message ?? body?.detail ?? answer.statusText);
  return body;
}

export const get = (path) => call(path);
export const remove = (path) => call(path, { method: "DELETE" });

export function send(path, body, method = "POST") {
  return call(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
}

export function upload(path, file, more = {}) {
  const form = new FormData();
  form.append("file", file, "picture");
  for (const [name, value] of Object.entries(more)) form.append(name, value);
  return call(path, { method: "POST", body: form });
}

export const image = (id) => `${BASE}/images/${id}`;
export const thumb = (id) => `${BASE}/images/${id}/thumb`;

// Follow an event stream until one of the last events; the browser reconnects by itself and goes on after the last id.
export function follow(path, heard, last) {
  const source = new EventSource(BASE + path);
  const listen = (type) =>
    source.addEventListener(type, (event) => {
      heard(type, JSON.parse(event.data));
      if (last.includes(type)) source.close();
    });
  for (const type of ["queued", "loading", "started", "progress", "picture", "note", "done", "failed", "cancelled",
    "step", "state"]) listen(type);
  return source;
}
