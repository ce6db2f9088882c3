const $ = (id) => document.getElementById(id);
const server = document.body.dataset.mode === "server";
const text = $("ballot").textContent;
const ballot = JSON.parse(text), data = JSON.parse($("data").textContent);
const hash = sha256(bytesOf(text)); // of what is really shown, not of what somebody says it is
const names = ballot.questions.map((question) => question.name);
let rater = "", sheet = 0, given = new Map(), at = 0, shownAt = 0, ready = false, gap = 0;

// Browsers may forbid storage, on pages from files above all: then nothing is resumed, and the page says so.
const storage = {
  key: (name) => `brushwork-vote-${hash.slice(0, 16)}-${name}`,
  read(name) { try { return localStorage.getItem(this.key(name)); } catch { return null; } },
  write(name, value) { try { localStorage.setItem(this.key(name), value); return true; } catch { return false; } },
};
const trials = () => ballot.sheets[sheet];
const total = () => trials().length * names.length;
const keyOf = (place, question) => `${place}/${question}`;
const source = (name) => data[name] ?? `pictures/${name}.png`;

function report(id, message) {
  $(id).textContent = message;
  $(id).hidden = !message;
}
function show(id) {
  for (const each of ["start", "vote", "done"]) $(each).hidden = each !== id;
  scrollTo(0, 0);
}
function answers() {
  const rows = [...given.values()].sort((a, b) => a.place - b.place || names.indexOf(a.question) - names.indexOf(b.question));
  return { format: "brushwork answers 1", ballot: hash, rater, sheet, answers: rows };
}

// One file holds its pictures, and their names are the hashes of their bytes.
function untouched(name) {
  if (!data[name]) return true;
  const bytes = Uint8Array.from(atob(data[name].split(",")[1]), (letter) => letter.charCodeAt(0));
  return sha256(bytes).slice(0, name.length) === name;
}

async function begin(name) {
  rater = name.trim().replace(/\s+/g, " ");
  if (!rater) return;
  if (server) {
    const reply = await fetch(`answers?rater=${encodeURIComponent(rater)}`).catch(() => null);
    const told = reply && await reply.json().catch(() => null);
    if (!reply?.ok) return report("start-problem", told?.error?.message ?? told?.error ?? "The server does not answer. Is it still running?");
    sheet = told.sheet;
    given = new Map(told.answers.map((row) => [keyOf(row.place, row.question), row]));
  } else {
    sheet = Number.parseInt(sha256(bytesOf(rater)).slice(0, 8), 16) % ballot.sheets.length;
    const rows = JSON.parse(storage.read(`answers-${rater}`) ?? "[]");
    given = new Map(rows.map((row) => [keyOf(row.place, row.question), row]));
  }
  storage.write("rater", rater);
  at = 0;
  while (at < total() && given.has(keyOf(Math.floor(at / names.length), names[at % names.length]))) at++;
  step();
}

async function step() {
  report("problem", "");
  if (at >= total()) return finish();
  show("vote");
  const place = Math.floor(at / names.length), [number, left] = trials()[place];
  const pair = ballot.pairs[number], question = ballot.questions[at % names.length];
  const before = given.get(keyOf(place, question.name));
  $("bar").max = total();
  $("bar").value = at;
  $("count").textContent = `${place + 1} of ${trials().length}`;
  $("back").disabled = at === 0;
  $("prompt").textContent = pair.prompt;
  $("prompt").hidden = !pair.prompt;
  $("question").textContent = question.text;
  $("examples").hidden = question.name !== "style" || !ballot.references.length;
  for (const button of document.querySelectorAll("[data-choice]")) {
    button.setAttribute("aria-pressed", String(before?.choice === button.dataset.choice));
  }
  const shown = [pair.pictures[left], pair.pictures[1 - left]], images = document.querySelectorAll("#pictures img");
  const mine = ++gap;
  ready = false;
  $("pictures").classList.add("loading");
  images.forEach((image, side) => { if (image.dataset.name !== shown[side]) image.src = source(shown[side]); image.dataset.name = shown[side]; });
  try {
    await Promise.all([...images].map((image) => image.decode()));
  } catch {
    if (mine === gap) report("problem", "A picture cannot be loaded. Reload the page to try again.");
    return;
  }
  if (mine !== gap) return;
  if (!shown.every(untouched)) return report("problem", "A picture of this page is not the one it was made with. Please ask for a new copy.");
  images.forEach((image) => image.classList.toggle("pixels", image.naturalWidth <= 128));
  $("pictures").classList.remove("loading");
  shownAt = performance.now();
  ready = true;
}

async function answer(choice) {
  // Nobody has looked so soon: it was a second click meant for the pair before.
  if (!ready || performance.now() - shownAt < 120) return;
  ready = false;
  const place = Math.floor(at / names.length), [pair, left, repeat] = trials()[place], question = names[at % names.length];
  const ms = Math.min(Math.round(performance.now() - shownAt), 86400000);
  const row = { place, pair, left, repeat, question, choice, ms };
  if (server) {
    const body = JSON.stringify({ rater, answer: row });
    const reply = await fetch("answers", { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch(() => null);
    if (!reply?.ok) {
      ready = true;
      const told = reply && await reply.json().catch(() => null);
      return report("problem", told?.error?.message ?? told?.error ?? "This answer could not be stored: the server does not answer. Try again in a moment.");
    }
  }
  given.set(keyOf(place, question), row);
  if (!server && !storage.write(`answers-${rater}`, JSON.stringify(answers().answers))) {
    $("done").dataset.volatile = "yes";
  }
  at++;
  await step();
  if ($("done").dataset.volatile && at < total()) report("problem", "This browser keeps nothing of this page: finish and download before you close it.");
}

function back() {
  if (at === 0 || (!ready && at < total())) return;
  at--;
  step();
}

function finish() {
  show("done");
  if (server) return;
  $("copy").value = JSON.stringify(answers(), null, 1);
}

$("who").addEventListener("submit", (event) => {
  event.preventDefault();
  report("start-problem", "");
  begin($("rater").value);
});
$("back").addEventListener("click", back);
$("again").addEventListener("click", back);
$("download")?.addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(answers(), null, 1)], { type: "application/json" }));
  link.download = `votes-${rater.toLowerCase().replace(/[^a-z0-9]+/g, "-") || "rater"}-${hash.slice(0, 8)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
for (const button of document.querySelectorAll("[data-choice]")) {
  button.addEventListener("click", () => answer(button.dataset.choice));
}
addEventListener("keydown", (event) => {
  if ($("vote").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const choice = { ArrowLeft: "left", ArrowRight: "right", " ": "tie" }[event.key];
  if (!choice && event.key !== "Backspace") return;
  event.preventDefault(); // or the space would also press the button that has the focus
  if (choice) answer(choice); else back();
});
// In some browsers the space presses the focused button only when it is let go.
addEventListener("keyup", (event) => {
  if (!$("vote").hidden && event.key === " ") event.preventDefault();
});
for (const name of ballot.references) {
  const image = new Image();
  image.src = source(name);
  image.alt = "Example";
  $("examples").querySelector("div").append(image);
}
const known = storage.read("rater");
if (known) {
  $("rater").value = known;
  begin(known);
}
