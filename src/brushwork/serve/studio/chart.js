// The loss of a run, smoothed so that its course can be seen, and the held-out loss where there is one.

import { h } from "./dom.js";

const WIDTH = 640, HEIGHT = 220, LEFT = 60, BOTTOM = 24, TOP = 10;

function svg(tag, attributes, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
}

export function chart(steps, total) {
  const smooth = [];
  let mean = steps[0].loss;
  for (const step of steps) smooth.push([step.index, (mean = 0.95 * mean + 0.05 * step.loss)]);
  const held = steps.filter((step) => step.validation_loss !== undefined && step.validation_loss !== null).map((step) => [step.index, step.validation_loss]);
  const values = [...smooth, ...held].map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const last = Math.max(total || 0, steps.at(-1).index);
  const x = (value) => LEFT + (value / last) * (WIDTH - LEFT - 8);
  const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low || 1)) * (HEIGHT - BOTTOM - TOP);
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "curve", role: "img",
    "aria-label": `Loss from ${smooth[0][1].toFixed(4)} to ${smooth.at(-1)[1].toFixed(4)}` });
  for (const value of [low, (low + high) / 2, high]) {
    picture.append(svg("line", { x1: LEFT, x2: WIDTH - 8, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, value.toPrecision(3)));
  }
  for (const value of [0, Math.round(last / 2), last]) {
    picture.append(svg("text", { x: x(value), y: HEIGHT - 6, "text-anchor": value === last ? "end" : value ? "middle" : "start" }, value ? `step ${value}` : "0"));
  }
  for (const [points, name] of [[smooth, "train"], [held, "held"]]) {
    if (!points.length) continue;
    const line = points.map(([step, value], place) => `${place ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    picture.append(svg("path", { d: line, class: name }));
    if (name === "held") for (const [step, value] of points) picture.append(svg("circle", { cx: x(step), cy: y(value), r: 3, class: name }));
  }
  return h("figure", { className: "chart" }, picture, h("figcaption", {}, h("span", { className: "key" }), "loss, smoothed",
    held.length ? [h("span", { className: "key held" }), "on pictures that were held out"] : []));
}
