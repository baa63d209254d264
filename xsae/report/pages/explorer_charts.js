"use strict";
// The scatter of matches and the map of directions, as SVG; what they share with the rest stands in explorer.js.

const RAMP = ["#440154", "#3b528b", "#21918c", "#5ec962", "#d8c819"]; // purity 0 to 1, viridis
const UNKNOWN = "#8c8c8c";
const FRAME = { left: 44, right: 508, top: 10, bottom: 318 };
const CLICK = 5; // pixels of the drawing that a pointer may move and still click

function draw(parent, tag, attributes, text = "") {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return parent.appendChild(element);
}

function colour(match) {
  const known = [0, 1].map((side) => view.purity[side][match]).filter((value) => value !== null);
  if (!known.length) return UNKNOWN;
  const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
  return RAMP[Math.min(Math.floor(mean * RAMP.length), RAMP.length - 1)];
}

function ticks(low, high) {
  const size = [0.1, 0.2, 0.25, 0.5, 1].find((own) => (high - low) / own <= 7) ?? 1;
  const count = Math.floor(high / size + 1e-9) - Math.ceil(low / size - 1e-9) + 1;
  return Array.from({ length: count }, (_, place) => (Math.ceil(low / size - 1e-9) + place) * size);
}

// Clear a drawing; returns where its values lie.
function axes(svg, low, high) {
  const across = (value) => FRAME.left + ((value - low[0]) / (high[0] - low[0])) * (FRAME.right - FRAME.left);
  const up = (value) => FRAME.bottom - ((value - low[1]) / (high[1] - low[1])) * (FRAME.bottom - FRAME.top);
  svg.replaceChildren();
  return { x: across, y: up };
}

function drawScatter() {
  const svg = byId("scatter");
  const least = Math.min(0, ...view.correlation);
  const high = [Math.max(...view.correlation, view.floor) * 1.03, Math.max(...view.gap, 0.2) * 1.05];
  scale = axes(svg, [least, -0.02 * high[1]], high);
  for (const value of ticks(least, high[0])) {
    const x = scale.x(value);
    draw(svg, "line", { x1: x, x2: x, y1: FRAME.top, y2: FRAME.bottom, stroke: "#eaeef2" });
    draw(svg, "text", { x, y: FRAME.bottom + 15, "text-anchor": "middle", fill: "#57606a" }, value.toFixed(1));
  }
  for (const value of ticks(0, high[1])) {
    const y = scale.y(value);
    draw(svg, "line", { x1: FRAME.left, x2: FRAME.right, y1: y, y2: y, stroke: "#eaeef2" });
    draw(svg, "text", { x: FRAME.left - 6, y: y + 4, "text-anchor": "end", fill: "#57606a" }, value.toFixed(1));
  }
  const middle = (FRAME.left + FRAME.right) / 2;
  draw(svg, "text", { x: middle, y: 350, "text-anchor": "middle" }, "co-activation correlation");
  const turned = { x: 0, y: 0, "text-anchor": "middle", transform: "translate(12,164) rotate(-90)" };
  draw(svg, "text", turned, "direction gap (1 − cosine)");
  const floor = scale.x(view.floor);
  draw(svg, "rect", {
    x: FRAME.left, y: FRAME.top, width: Math.max(floor - FRAME.left, 0), height: FRAME.bottom - FRAME.top,
    fill: "#57606a", opacity: 0.08,
  });
  draw(svg, "line", { x1: floor, x2: floor, y1: FRAME.top, y2: FRAME.bottom, stroke: "#57606a", "stroke-dasharray": 4 });
  view.latent.forEach((_, match) => {
    const agree = agreement(match) !== "different";
    draw(svg, "circle", {
      cx: scale.x(view.correlation[match]), cy: scale.y(view.gap[match]), r: 4.5, "data-match": match,
      fill: agree ? colour(match) : "#fff", stroke: agree ? "#fff" : colour(match), "stroke-width": agree ? 0.7 : 2,
    });
  });
  draw(svg, "circle", { id: "here", r: 9, fill: "none", stroke: "#b3410c", "stroke-width": 3 });
  draw(svg, "rect", { id: "box", fill: "#0b5cad", "fill-opacity": 0.12, stroke: "#0b5cad", visibility: "hidden" });
}

function drawMap() {
  const svg = byId("map");
  const x = view.places.flatMap((place) => [place[0], place[2]]);
  const y = view.places.flatMap((place) => [place[1], place[3]]);
  const to = axes(svg, [Math.min(...x), Math.min(...y)], [Math.max(...x), Math.max(...y)]);
  view.mapped = view.places.map(([a, b, c, d]) => [to.x(a), to.y(b), to.x(c), to.y(d)]);
  view.mapped.forEach(([x1, y1, x2, y2], match) => {
    const group = draw(svg, "g", { "data-match": match });
    draw(group, "line", { x1, y1, x2, y2, stroke: "#8c959f", "stroke-width": 0.5, opacity: 0.5 });
    draw(group, "circle", { cx: x1, cy: y1, r: 3, fill: "#0b5cad" });
    draw(group, "rect", { x: x2 - 2.5, y: y2 - 2.5, width: 5, height: 5, fill: "#b3410c" });
  });
  const bold = draw(svg, "g", { id: "joined", stroke: "#1b1f24", "stroke-width": 2.5, fill: "none" });
  draw(bold, "line", {});
  draw(bold, "circle", { r: 7 });
  draw(bold, "rect", { width: 12, height: 12 });
}

function markChosen() {
  const set = (element, attributes) => Object.entries(attributes).forEach(([key, own]) => element.setAttribute(key, own));
  set(byId("here"), { cx: scale.x(view.correlation[chosen]), cy: scale.y(view.gap[chosen]) });
  const [x1, y1, x2, y2] = view.mapped[chosen];
  const [joint, circle, square] = byId("joined").children;
  set(joint, { x1, y1, x2, y2 });
  set(circle, { cx: x1, cy: y1 });
  set(square, { x: x2 - 6, y: y2 - 6 });
}

// The match nearest to a place of a drawing, if one is near.
function nearest(places, x, y) {
  const away = places.map(([a, b]) => Math.hypot(a - x, b - y));
  const least = Math.min(...away);
  return least < 20 ? away.indexOf(least) : null;
}

function at(svg, event) {
  const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [place.x, place.y];
}

function listenToDrawings() {
  const svg = byId("scatter");
  let from = null;
  const box = ([x, y]) => ({
    left: Math.min(x, from[0]), right: Math.max(x, from[0]), top: Math.min(y, from[1]), bottom: Math.max(y, from[1]),
  });
  svg.addEventListener("pointerdown", (event) => {
    from = at(svg, event);
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (!from) return;
    const { left, right, top, bottom } = box(at(svg, event));
    const about = { x: left, y: top, width: right - left, height: bottom - top, visibility: "visible" };
    for (const [name, value] of Object.entries(about)) byId("box").setAttribute(name, value);
  });
  svg.addEventListener("pointercancel", () => {
    from = null;
    byId("box").setAttribute("visibility", "hidden");
  });
  svg.addEventListener("pointerup", (event) => {
    if (!from) return;
    const [x, y] = at(svg, event);
    if (Math.hypot(x - from[0], y - from[1]) > CLICK) {
      filter.box = box([x, y]);
    } else {
      filter.box = null;
      byId("box").setAttribute("visibility", "hidden");
      const points = view.latent.map((_, match) => [scale.x(view.correlation[match]), scale.y(view.gap[match])]);
      const match = nearest(points, x, y);
      if (match !== null) choose(match);
    }
    from = null;
    showList();
  });
  byId("map").addEventListener("click", (event) => {
    const ends = view.mapped.flatMap(([x1, y1, x2, y2]) => [[x1, y1], [x2, y2]]);
    const end = nearest(ends, ...at(byId("map"), event));
    if (end !== null) choose(Math.floor(end / 2));
  });
}

function drawLegend() {
  const entry = (mark, said) => {
    const whole = make("span");
    whole.append(mark, make("i", {}, said));
    return whole;
  };
  const dot = (style) => make("b", { class: "dot", style });
  const purity = make("span");
  purity.append(make("i", {}, "purity 0"), ...RAMP.map((own) => dot(`background:${own}`)), make("i", {}, "1"));
  byId("legend").replaceChildren(
    purity,
    entry(dot("background:#57606a"), "labels agree"),
    entry(dot("background:#fff;border:2px solid #57606a"), "labels differ"),
    entry(make("b", {}, "┆"), "noise floor: 95 % of matches of shuffled pairs lie left of it"),
  );
}
