// A folder of pictures from this computer into a data set: captions come along from text files beside the pictures, or
// from a metadata.jsonl or metadata.csv, as every training tool writes them.

import { upload } from "./api.js";
import { h, plural, toast } from "./dom.js";

const PICTURES = /\.(png|jpe?g|webp)$/i;
const KEYS = ["text", "caption", "prompt"];
const NAMES = ["file_name", "filename", "image", "file"];
const stem = (name) => name.replace(/\.[^.]*$/, "");
const AT_ONCE = 3;
const last = (path) => path.split(/[\\/]/).at(-1);

// What is among some files: pictures with their captions.
export async function sorted(files) {
  const captions = new Map();
  for (const file of files) {
    if (/\.(txt|caption)$/i.test(file.name)) captions.set(stem(file.name), (await file.text()).trim());
    if (/^metadata\.jsonl$/i.test(file.name)) table(captions, (await file.text()).split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line)));
    if (/^metadata\.csv$/i.test(file.name)) table(captions, csv(await file.text()));
  }
  const pictures = files.filter((file) => PICTURES.test(file.name))
    .map((file) => ({ file, caption: captions.get(stem(file.name)) ?? "" }));
  const known = /\.(txt|caption|png|jpe?g|webp)$|^metadata\.(jsonl|csv)$/i;
  return { pictures, captioned: pictures.filter((each) => each.caption).length, other: files.filter((file) => !known.test(file.name) && !file.name.startsWith(".")).length };
}

function table(captions, rows) {
  for (const row of rows) {
    const name = NAMES.map((key) => row[key]).find(Boolean);
    const caption = KEYS.map((key) => row[key]).find(Boolean);
    if (name && caption) captions.set(stem(last(String(name))), String(caption).trim());
  }
}

// The cells of lines separated by commas; quotes hold commas, line breaks and doubled quotes.
export function cells(text) {
  const rows = [[]];
  let cell = "", quoted = false;
  const end = () => { rows.at(-1).push(cell); cell = ""; };
  for (let place = 0; place < text.length; place += 1) {
    const letter = text[place];
    if (quoted && letter === '"' && text[place + 1] === '"') { cell += '"'; place += 1; }
    else if (letter === '"') quoted = !quoted;
    else if (letter === "," && !quoted) end();
    else if (letter === "\n" && !quoted) { end(); rows.push([]); }
    else if (letter !== "\r" || quoted) cell += letter;
  }
  end();
  return rows.filter((row) => row.some((each) => each !== ""));
}

// Rows of a CSV file by the names in its first line.
function csv(text) {
  const [head, ...body] = cells(text);
  return (body ?? []).map((row) => Object.fromEntries((head ?? []).map((name, place) => [name.trim(), row[place] ?? ""])));
}

// Say what was chosen, before it is sent.
export function told({ pictures, captioned, other }) {
  if (!pictures.length) return "No picture is among them: PNG, JPEG and WebP can be read.";
  const rest = other ? ` ${plural(other, "other file is", "other files are")} left out.` : "";
  return `${plural(pictures.length, "picture")}, ${captioned === pictures.length ? "all" : captioned} with a caption.${rest}`;
}

// Send them, a few at a time, and say how far it is; returns how many are in.
export async function put(name, found, place) {
  const bar = h("progress", { max: found.pictures.length, value: 0, "aria-label": "Pictures that are sent" });
  const said = h("p", { className: "note", role: "status" }, "");
  place?.replaceChildren(bar, said);
  const refused = [];
  const left = [...found.pictures];
  let done = 0;
  async function send() {
    for (let next = left.shift(); next; next = left.shift()) {
      try {
        await upload(`/datasets/${encodeURIComponent(name)}`, next.file, { caption: next.caption });
        done += 1;
      } catch (error) {
        refused.push(`${next.file.name}: ${error.message}`);
      }
      bar.value = done + refused.length;
      said.textContent = `${bar.value} of ${found.pictures.length}: ${next.file.name}`;
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, send));
  place?.replaceChildren();
  if (refused.length) toast([...refused.slice(0, 3), ...(refused.length > 3 ? [`and ${refused.length - 3} more`] : [])].join("\n"));
  if (done) toast(`${plural(done, "picture is", "pictures are")} in ${name}.`, true);
  return done;
}
