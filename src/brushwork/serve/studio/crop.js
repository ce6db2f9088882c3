// Turn and cut a picture in a window: a box is drawn with the pointer, or its edges are typed.

import { button, dialog, field, h, number } from "./dom.js";

// Resolves with {turn, crop} as the API takes it, null when nothing is to change.
export function crop(source) {
  return dialog("Turn and cut", (close) => {
    let turn = 0;
    let from = null;
    const picture = h("img", { src: source, alt: "The picture that is cut", draggable: false });
    const canvas = h("canvas", { className: "cut" });
    const edges = { left: number(0), top: number(0), right: number(100), bottom: number(100) };
    for (const each of Object.values(edges)) Object.assign(each, { min: 0, max: 100, step: "any", oninput: () => draw() });
    const share = (name) => Math.min(100, Math.max(0, Number(edges[name].value))) / 100;

    function draw() {
      const sideways = turn % 180 !== 0;
      const [wide, high] = sideways ? [picture.naturalHeight, picture.naturalWidth] : [picture.naturalWidth, picture.naturalHeight];
      const scale = Math.min(1, 800 / Math.max(wide, high)) * Math.max(1, Math.floor(300 / Math.max(wide, high)));
      canvas.width = Math.round(wide * scale);
      canvas.height = Math.round(high * scale);
      const pen = canvas.getContext("2d");
      pen.translate(canvas.width / 2, canvas.height / 2);
      pen.rotate((turn * Math.PI) / 180);
      pen.scale(scale, scale);
      pen.drawImage(picture, -picture.naturalWidth / 2, -picture.naturalHeight / 2);
      pen.setTransform(1, 0, 0, 1, 0, 0);
      const box = [share("left") * canvas.width, share("top") * canvas.height, share("right") * canvas.width, share("bottom") * canvas.height];
      pen.fillStyle = "rgb(0 0 0 / 55%)";
      pen.beginPath();
      pen.rect(0, 0, canvas.width, canvas.height);
      pen.rect(box[0], box[1], box[2] - box[0], box[3] - box[1]);
      pen.fill("evenodd");
    }

    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [100 * (event.clientX - box.left) / box.width, 100 * (event.clientY - box.top) / box.height].map((each) => Math.min(100, Math.max(0, each)));
    };
    canvas.addEventListener("pointerdown", (event) => { from = at(event); canvas.setPointerCapture(event.pointerId); });
    canvas.addEventListener("pointerup", () => { from = null; });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = at(event);
      edges.left.value = Math.min(from[0], to[0]).toFixed(1);
      edges.right.value = Math.max(from[0], to[0]).toFixed(1);
      edges.top.value = Math.min(from[1], to[1]).toFixed(1);
      edges.bottom.value = Math.max(from[1], to[1]).toFixed(1);
      draw();
    });
    picture.addEventListener("load", draw);
    const rotate = (by) => () => { turn = (turn + by + 360) % 360; draw(); };
    const square = () => {
      const sideways = turn % 180 !== 0;
      const [wide, high] = sideways ? [picture.naturalHeight, picture.naturalWidth] : [picture.naturalWidth, picture.naturalHeight];
      const side = Math.min(wide, high);
      const put = (name, value) => { edges[name].value = (100 * value).toFixed(2); };
      put("left", (wide - side) / 2 / wide); put("right", (wide + side) / 2 / wide);
      put("top", (high - side) / 2 / high); put("bottom", (high + side) / 2 / high);
      draw();
    };
    const keep = () => {
      const box = ["left", "top", "right", "bottom"].map(share);
      const whole = box.join() === "0,0,1,1";
      close(turn || !whole ? { turn, crop: whole ? null : box } : null);
    };
    return [
      h("p", { className: "note" }, "Draw a box over what shall stay."), canvas,
      h("div", { className: "buttons" }, button("Turn left", rotate(-90)), button("Turn right", rotate(90)), button("Square in the middle", square)),
      h("div", { className: "fields" }, Object.entries(edges).map(([name, control]) => field(`${name[0].toUpperCase()}${name.slice(1)} %`, control))),
      h("div", { className: "buttons" }, button("Keep this part", keep, { className: "main" }), button("Cancel", () => close())),
    ];
  });
}
