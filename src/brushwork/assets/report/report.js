"use strict";
// The slider is a range input over the two pictures, so pointer, touch and keyboard come from the browser.
const compare = document.getElementById("compare");
if (compare) {
  const [base, tuned] = compare.querySelectorAll("img");
  const range = compare.querySelector("input");
  const place = () => compare.style.setProperty("--at", `${range.value}%`);
  range.addEventListener("input", place);
  place();
  const buttons = document.querySelectorAll(".strip button");
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const [left, right] = button.querySelectorAll("img");
      const { prompt, seed } = button.dataset;
      base.src = left.src;
      tuned.src = right.src;
      base.alt = `Base: ${prompt}`;
      tuned.alt = `Tuned: ${prompt}`;
      document.getElementById("shown-prompt").textContent = prompt;
      document.getElementById("shown-seed").textContent = seed;
      for (const each of buttons) each.setAttribute("aria-pressed", String(each === button));
    });
  }
}
// What is folded away belongs on paper too.
addEventListener("beforeprint", () => {
  for (const each of document.querySelectorAll("details")) each.open = true;
});
