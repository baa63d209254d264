"use strict";
// Text of the data goes into the page by textContent and attributes alone, never as markup.

const byId = (id) => document.getElementById(id);

let data; // all there is
let view; // one method of one seed
let chosen = 0; // the match that is shown, a place in the view's columns
let filter = { text: "", box: null };
let scale; // of the scatter: value -> place, and back

function make(tag, attributes = {}, text = "") {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

const shown = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`);
const caption = (item) => data.captions[item] ?? `held-out pair ${item + 1}`;
const sides = () => [data.modalities[0], view.modality];
const label = (match, side) => view.label[side][match];

function agreement(match) {
  if (!label(match, 0) || !label(match, 1)) return "unknown";
  return label(match, 0) === label(match, 1) ? "the same" : "different";
}

// --- pictures and captions ---

const holds = (item, concept) => concept && data.holds[item]?.includes(data.concepts.indexOf(concept));

function picture(item, concept) {
  const { columns, rows } = data.picture;
  const held = holds(item, concept);
  const element = make("div", { class: held ? "picture holds" : "picture", role: "img", title: caption(item) });
  element.setAttribute("aria-label", caption(item) + (held ? `, holds ${concept}` : ""));
  const place = (at, of) => (of > 1 ? (100 * at) / (of - 1) : 0);
  element.style.backgroundSize = `${columns * 100}% ${rows * 100}%`;
  element.style.backgroundPosition = `${place(item % columns, columns)}% ${place(Math.floor(item / columns), rows)}%`;
  return element;
}

// Items as pictures, or as their captions where there are no pictures.
function gallery(element, items, concept) {
  element.replaceChildren(...items.map((item) => (data.picture ? picture(item, concept) : line(item, concept))));
}

const line = (item, concept) => make("div", { class: holds(item, concept) ? "said holds" : "said" }, caption(item));

// --- choosing among matches ---

function matching() {
  const wanted = filter.text.toLowerCase();
  const fits = (match) =>
    !wanted ||
    [0, 1].some((side) => label(match, side).toLowerCase().includes(wanted)) ||
    [0, 1].some((side) => view.top[side][match].some((item) => caption(item).toLowerCase().includes(wanted)));
  const inside = (match) => {
    if (!filter.box) return true;
    const [x, y] = [scale.x(view.correlation[match]), scale.y(view.gap[match])];
    return x >= filter.box.left && x <= filter.box.right && y >= filter.box.top && y <= filter.box.bottom;
  };
  return view.latent.map((_, match) => match).filter((match) => fits(match) && inside(match));
}

function showList() {
  const found = matching();
  const name = (match) => [0, 1].map((side) => label(match, side) || "?").join(" / ");
  byId("matches").replaceChildren(
    ...found.map((match) => {
      const ids = `${view.latent[match]}→${view.partner[match]}`.padEnd(9, "\u00a0");
      return make("option", { value: match }, `${ids} ${shown(view.correlation[match])} ${name(match)}`);
    }),
  );
  byId("matches").value = String(chosen);
  byId("count").textContent = `${found.length} of ${view.latent.length} shown`;
  const among = new Set(found);
  for (const point of document.querySelectorAll("[data-match]")) {
    point.setAttribute("opacity", among.has(Number(point.dataset.match)) ? 1 : 0.12);
  }
}

function choose(match) {
  chosen = match;
  byId("matches").value = String(match);
  const address = new URLSearchParams();
  for (const name of ["backbone", "method", "seed", "modality"]) address.set(name, view[name]);
  address.set("latent", view.latent[match]);
  history.replaceState(null, "", `#${address}`);
  markChosen();
  showMatch();
}

function step(by) {
  const found = matching();
  if (!found.length) return;
  const at = found.indexOf(chosen);
  choose(found[(Math.max(at, at < 0 && by < 0 ? 0 : at) + by + found.length) % found.length]);
}

// --- the chosen match ---

function verdict(match) {
  const gap = shown(view.gap[match]);
  if (view.correlation[match] < view.floor) return "Below the noise floor: matched by necessity, not by meaning.";
  if (view.method === "posthoc") return `Two dictionaries, one partner each: what fires together lies ${gap} apart.`;
  if (view.latent[match] === view.partner[match]) return "One latent serves both modalities.";
  return `Split: the shared autoencoder spends two latents, ${gap} apart, one for each modality.`;
}

function facts(pairs) {
  return pairs.map(([name, value]) => {
    const pair = make("div");
    pair.append(make("dt", {}, name), make("dd", {}, value));
    return pair;
  });
}

function histogram(side) {
  const counts = view.histogram[side][chosen];
  const most = Math.max(...counts, 1);
  const fires = counts.reduce((sum, count) => sum + count, 0);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const largest = shown(view.largest[side][chosen]);
  svg.setAttribute("viewBox", "0 0 260 78");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Histogram of ${fires} held-out activations, from 0 to ${largest}`);
  counts.forEach((count, bin) => {
    const height = (52 * count) / most;
    const about = { x: 1 + (bin * 258) / counts.length, y: 58 - height, width: 258 / counts.length - 2, height };
    draw(svg, "rect", { ...about, fill: side ? "#b3410c" : "#0b5cad" });
  });
  draw(svg, "line", { x1: 0, x2: 260, y1: 58.5, y2: 58.5, stroke: "#57606a" });
  draw(svg, "text", { x: 0, y: 73 }, "0");
  draw(svg, "text", { x: 130, y: 73, "text-anchor": "middle" }, `activation of ${fires} held-out`);
  draw(svg, "text", { x: 260, y: 73, "text-anchor": "end" }, largest);
  return svg;
}

function showSide(side) {
  const modality = sides()[side];
  const block = make("section", { "data-side": modality });
  const concept = label(chosen, side);
  block.append(make("h3", {}, `${modality} latent ${(side ? view.partner : view.latent)[chosen]}`));
  const list = make("dl", { class: "facts" });
  const known = [["label", concept || "none"], ["purity", percent(view.purity[side][chosen])]];
  list.append(...facts([...known, ["fires on", percent(view.rate[side][chosen])]]));
  block.append(list, histogram(side));
  const top = view.top[side][chosen];
  const ticked = concept && side === 0 && data.holds.length ? `; a tick: holds ${concept}` : "";
  block.append(make("h4", {}, top.length ? `fired most by${ticked}` : `no held-out ${modality} fires it`));
  if (side === 0 && data.picture) {
    const grid = make("div", { class: "grid" });
    gallery(grid, top, concept);
    block.append(grid);
    return block;
  }
  const texts = make("ol", { class: "text" });
  top.forEach((item, place) => {
    const entry = make("li");
    if (data.picture) entry.append(picture(item, ""));
    entry.append(make("span", {}, caption(item)), make("span", { class: "soft" }, shown(view.activation[side][chosen][place])));
    texts.append(entry);
  });
  block.append(texts);
  return block;
}

function showMatch() {
  const [reference, other] = sides();
  byId("title").textContent =
    `${reference} latent ${view.latent[chosen]} ↔ ${other} latent ${view.partner[chosen]}`;
  byId("verdict").textContent = verdict(chosen);
  byId("facts").replaceChildren(
    ...facts([
      ["correlation", shown(view.correlation[chosen])],
      ["noise floor", shown(view.floor)],
      ["direction gap", shown(view.gap[chosen])],
      ["labels", agreement(chosen)],
    ]),
  );
  byId("sides").replaceChildren(showSide(0), showSide(1));
  showSteering();
}

function showSteering() {
  const steered = view.steered[chosen];
  const concept = label(chosen, 0);
  byId("steer-title").textContent = `Steering along ${sides()[0]} latent ${view.latent[chosen]}`;
  byId("steering").hidden = !("start" in steered);
  if (!("start" in steered)) {
    byId("steer-title").textContent += ": every held-out pair carries it already";
    return;
  }
  const alpha = Number(byId("alpha").value);
  const counted = steered.after[alpha].filter((item) => holds(item, concept)).length;
  byId("steer-note").textContent = concept
    ? `A held-out ${sides()[0]} without ${concept} is pushed; neighbours with a tick hold it.`
    : `A held-out ${sides()[0]} that does not fire the latent is pushed.`;
  gallery(byId("start"), [steered.start], concept);
  gallery(byId("before"), steered.before, concept);
  gallery(byId("after"), steered.after[alpha], concept);
  byId("after-title").textContent = `nearest after α = ${data.alphas[alpha]}`;
  byId("alpha").setAttribute("aria-valuetext", `α = ${data.alphas[alpha]}`);
  const said = [`α = ${data.alphas[alpha]}`, `preservation ${shown(steered.preservation[alpha])}`];
  if (steered.mAP.length) said.push(`mAP ${shown(steered.mAP[alpha])}`);
  if (concept && data.holds.length) said.push(`${counted} of ${steered.after[alpha].length} hold it`);
  byId("pushed").textContent = said.join(" · ");
}

// --- which view ---

const CHOICES = ["backbone", "method", "seed", "modality"];

function fillChoices() {
  for (const name of CHOICES) {
    const values = [...new Map(data.views.map((own) => [String(own[name]), own])).entries()];
    const options = values.map(([value, own]) => make("option", { value }, name === "method" ? own.title : value));
    byId(name).replaceChildren(...options);
    byId(name).parentElement.hidden = options.length < 2;
  }
}

// The view that an address asks for, as far as there is one, and in it the match of its latent, or else of a label.
function open(asked, wished = "") {
  const fits = (own) => CHOICES.filter((name) => asked.get(name) === String(own[name])).length;
  view = data.views.reduce((best, own) => (fits(own) > fits(best) ? own : best));
  for (const name of CHOICES) byId(name).value = String(view[name]);
  filter.box = null;
  byId("second").textContent = view.modality;
  drawScatter();
  drawMap();
  const wanted = asked.has("latent") ? view.latent.indexOf(Number(asked.get("latent"))) : -1;
  const alive = (match) => [0, 1].every((side) => view.top[side][match].length >= 3);
  const telling = (match) => alive(match) && agreement(match) === "the same";
  const wishedFor = (match) => telling(match) && label(match, 0) === wished;
  const first = [wishedFor, telling, alive].map((good) => view.latent.findIndex((_, match) => good(match)));
  choose(wanted >= 0 ? wanted : (first.find((match) => match >= 0) ?? 0));
  showList();
  if (asked.has("latent") && wanted < 0) {
    byId("verdict").textContent = `Latent ${asked.get("latent")} is not among the matches shown here. This one is: ${verdict(chosen)}`;
  }
}

const address = () => new URLSearchParams(location.hash.slice(1));

async function start() {
  const packed = Uint8Array.from(atob(byId("data").textContent), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  data = await new Response(unpacked).json();
  if (data.picture) {
    document.documentElement.style.setProperty("--ratio", `${data.picture.width} / ${data.picture.height}`);
  }
  byId("alpha").max = data.alphas.length - 1;
  byId("alpha").value = data.alphas.length - 1;
  byId("first").textContent = data.modalities[0];
  fillChoices();
  drawLegend();
  open(address());
  listenToDrawings();
  byId("choice").addEventListener("change", () => {
    open(new URLSearchParams(new FormData(byId("choice"))), label(chosen, 0)); // the same concept, if it is there
  });
  byId("matches").addEventListener("change", (event) => choose(Number(event.target.value)));
  byId("search").addEventListener("input", (event) => {
    filter.text = event.target.value.trim();
    showList();
  });
  byId("clear").addEventListener("click", () => {
    filter = { text: "", box: null };
    byId("search").value = "";
    byId("box").setAttribute("visibility", "hidden");
    showList();
  });
  byId("alpha").addEventListener("input", showSteering);
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  window.addEventListener("hashchange", () => open(address()));
}

start();
