"use strict";
// Drop, paste, choose or photograph an image; each chosen model is asked for bars first, then for its heat map.

const element = (id) => document.getElementById(id);
const state = { models: [], limits: {}, file: null, run: 0, preview: null, detected: [] };
const COLORS = 7; // classes .k0 to .k6 of the style sheet, which color-blind visitors can tell apart
const SVG = "http://www.w3.org/2000/svg";

function make(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function say(text) {
  element("status").textContent = text;
}

function fail(text) {
  element("error").textContent = text;
  element("error").hidden = !text;
}

async function reach(address, options) {
  try {
    return await fetch(address, options);
  } catch {
    throw new Error("The server does not answer. Is it still running?");
  }
}

async function ask(address, options) {
  const answer = await reach(address, options);
  const isJSON = (answer.headers.get("content-type") || "").includes("json");
  const body = isJSON ? await answer.json() : null;
  if (!answer.ok) throw new Error((body && body.detail) || `The server answered ${answer.status}.`);
  return body;
}

const detects = (card) => card.task === "detection";

function accuracyOf(card) {
  if (card.task !== "classification") return card.note || `for ${card.task}`;
  return card.published ? `${card.published.top1_percent.toFixed(2)} % top-1, ${card.published.dataset}` : card.note;
}

async function begin() {
  try {
    const facts = await ask("v1/models");
    state.models = facts.models;
    state.limits = facts.limits;
  } catch (error) {
    fail(error.message);
    return;
  }
  state.models.forEach((card, index) => {
    const label = make("label", "", "model");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.name = "model";
    box.value = card.name;
    box.checked = index === 0;
    box.addEventListener("change", () => { offerSamples(); run(); });
    const facts = `${card.num_classes} classes, ${card.preprocessing.image_size} px, ${card.measured.network_latency_ms} ms`;
    label.append(box, make("span", card.name), make("small", facts), make("small", accuracyOf(card)));
    element("models").append(label);
  });
  offerSamples();
  element("score-label").hidden = !state.models.some(detects);
  document.querySelectorAll(".of-classes").forEach((part) => { part.hidden = state.models.every(detects); });
}

function chosen() {
  const names = [...document.querySelectorAll("input[name=model]:checked")].map((box) => box.value);
  return state.models.filter((card) => names.includes(card.name));
}

function take(file) {
  if (!file) return;
  fail("");
  if (state.limits.max_body_bytes && file.size > state.limits.max_body_bytes) {
    fail(`The image has ${(file.size / 2 ** 20).toFixed(1)} MB; this server takes up to ${(state.limits.max_body_bytes / 2 ** 20).toFixed(1)}.`);
    return;
  }
  state.file = file;
  if (state.preview) URL.revokeObjectURL(state.preview);
  state.preview = URL.createObjectURL(file);
  const preview = element("preview");
  preview.onload = () => { preview.hidden = false; element("hint").textContent = "Drop or paste another one at any time."; };
  preview.onerror = () => { preview.hidden = true; element("hint").textContent = "Your browser has no preview of this file."; };
  preview.alt = `Preview of ${file.name || "the pasted image"}`;
  preview.src = state.preview;
  run();
}

// Some models come with pictures to try them with.
const sampleAddress = (card, number) => `v1/sample?${new URLSearchParams({ model: card.name, number })}`;

function offerSamples() {
  const buttons = chosen().flatMap((card) => Array.from({ length: card.samples }, (_, number) => {
    const button = make("button", "", "sample");
    const picture = make("img");
    button.type = "button";
    picture.src = sampleAddress(card, number);
    picture.alt = `A picture to try ${card.name}`;
    button.append(picture, make("span", card.samples > 1 ? `Sample ${number + 1}` : "Sample"));
    button.title = card.name;
    button.addEventListener("click", () => trySample(card, number));
    return button;
  }));
  element("samples").replaceChildren(...(buttons.length ? [make("span", "Or try one of these:", "quiet")] : []), ...buttons);
}

async function trySample(card, number) {
  try {
    const answer = await reach(sampleAddress(card, number));
    if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
    const kind = answer.headers.get("content-type");
    take(new File([await answer.blob()], `sample.${kind.endsWith("png") ? "png" : "jpg"}`, { type: kind }));
  } catch (error) {
    fail(error.message);
  }
}

function address(card, overlay) {
  const topk = Math.min(1000, Math.max(1, Math.round(Number(element("topk").value)) || 5));
  const options = detects(card) ? {} : { topk, overlay };
  return `v1/predict?${new URLSearchParams({ model: card.name, ...options })}`;
}

async function run() {
  const number = ++state.run;
  const cards = chosen();
  if (!state.file) return;
  fail("");
  if (!cards.length) {
    say("Choose at least one model.");
    return;
  }
  say("Asking ...");
  const began = performance.now();
  const spoken = [];
  const shown = cards.map((card) => emptyCard(card));
  state.detected = [];
  const body = state.file;
  const headers = { "Content-Type": "application/octet-stream" };
  let arrived = false;
  await Promise.all(cards.map(async (card, index) => {
    try {
      const answer = await ask(address(card, false), { method: "POST", body, headers });
      if (number !== state.run) return;
      if (!arrived) element("cards").replaceChildren(...shown);
      arrived = true;
      if (detects(card)) {
        state.detected.push([shown[index], answer]);
        fillBoxes(shown[index], answer);
        spoken.push(`${card.name}: ${spokenOf(answer)}.`);
        return;
      }
      fill(shown[index], answer);
      const first = answer.classes[0];
      spoken.push(`${card.name}: ${nameOf(first)}, ${percent(first.score)}.`);
      if (!card.heat_map || !element("heat").checked) return;
      const explained = await ask(address(card, true), { method: "POST", body, headers });
      if (number === state.run) addHeat(shown[index], explained);
    } catch (error) {
      if (number !== state.run) return;
      fail(error.message);
      shown[index].querySelector(".facts").textContent = "no answer";
    }
  }));
  if (number !== state.run) return;
  if (arrived) {
    say(`Answered in ${Math.round(performance.now() - began)} ms.`);
    element("spoken").textContent = spoken.join(" ");
  } else {
    say("");
    element("cards").replaceChildren(make("p", "No result for this file.", "quiet"));
  }
}

const percent = (score) => `${(100 * score).toFixed(2)} %`;
const nameOf = (entry) => entry.label || `class ${entry.id}`;

function emptyCard(card) {
  const article = make("article", "", "card");
  article.dataset.model = card.name;
  const bars = make("ol", "", "bars");
  article.append(make("h3", card.name), make("p", "waiting ...", "facts"), bars);
  if (detects(card)) {
    article.insertBefore(draw("svg", { class: "boxes", role: "img" }), bars);
    article.insertBefore(make("p", "", "caption"), bars);
  } else if (element("heat").checked) {
    const caption = make("p", card.heat_map ? "" : `No heat map: ${card.no_heat_map}.`, "caption");
    if (card.heat_map) article.insertBefore(make("div", "", "picture"), bars);
    article.insertBefore(caption, bars);
  }
  return article;
}

function fill(article, answer) {
  article.querySelector(".facts").textContent = `${answer.milliseconds.toFixed(1)} ms on the server`;
  article.querySelector(".bars").replaceChildren(...answer.classes.map((entry) => barOf(nameOf(entry), entry.score)));
}

function barOf(name, score, className = "") {
  const item = make("li", "", className);
  const line = make("div", "", "line");
  line.append(make("span", name), make("span", percent(score), "score"));
  const bar = draw("svg", { "aria-hidden": "true" });
  bar.append(draw("rect", { width: `${Math.max(0.3, 100 * score)}%`, height: "100%" }));
  item.append(line, bar);
  return item;
}

function draw(tag, attributes) {
  const drawn = document.createElementNS(SVG, tag);
  Object.entries(attributes).forEach(([name, value]) => drawn.setAttribute(name, value));
  return drawn;
}

const lowest = () => Number(element("score").value);
const objectsOf = (answer) => answer.detections.filter((object) => object.score >= lowest());
const classOf = (object) => `k${(object.label - 1) % COLORS}`;
const objectName = (object) => object.name || `class ${object.label}`;

function spokenOf(answer) {
  const counts = new Map();
  objectsOf(answer).forEach((object) => counts.set(objectName(object), (counts.get(objectName(object)) || 0) + 1));
  return [...counts].map(([name, count]) => `${count} ${name}`).join(", ") || "nothing found";
}

// The picture is the visitor's own file, which the browser turns upright as the server does; boxes are in its pixels.
function fillBoxes(article, answer) {
  const objects = objectsOf(answer);
  const { width, height } = answer;
  const letters = Math.max(width, height) / 30;
  const picture = article.querySelector(".boxes");
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.setAttribute("aria-label", `The image with boxes: ${spokenOf(answer)}`);
  const image = draw("image", { href: state.preview, width, height });
  const frames = [...objects].reverse().map((object) => { // the best on top
    const [x1, y1, x2, y2] = object.box;
    const group = draw("g", { class: classOf(object) });
    const frame = { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) };
    group.append(draw("rect", { ...frame, class: "rim" }), draw("rect", frame));
    return group;
  });
  const texts = [...objects].reverse().map((object) => {
    const [x1, y1, x2] = object.box;
    const atEnd = x1 > 0.8 * width; // the text would leave the picture on the right
    const x = atEnd ? Math.min(width, x2) - letters / 5 : Math.max(0, x1) + letters / 5;
    const y = Math.min(height, Math.max(letters, y1 + letters));
    const text = draw("text", { x, y, "font-size": letters, "text-anchor": atEnd ? "end" : "start" });
    text.textContent = `${objectName(object)} ${Math.round(100 * object.score)} %`;
    return text;
  });
  picture.replaceChildren(image, ...frames, ...texts);
  article.querySelector(".facts").textContent = `${answer.milliseconds.toFixed(1)} ms on the server`;
  article.querySelector(".caption").textContent =
    `${spokenOf(answer)}; ${objects.length} of ${answer.detections.length} objects have a score of at least ${element("score-shown").textContent}.`;
  article.querySelector(".bars").replaceChildren(
    ...objects.map((object) => barOf(objectName(object), object.score, classOf(object))),
  );
}

function addHeat(article, answer) {
  const first = nameOf(answer.classes[0]);
  const input = make("img");
  input.src = answer.overlay.input_png;
  input.alt = `What ${answer.model} saw of the image`;
  const heat = make("img");
  heat.className = "heat";
  heat.src = answer.overlay.heat_png;
  heat.alt = `Heat map: what speaks for ${first}`;
  article.querySelector(".picture").replaceChildren(input, heat);
  article.querySelector(".caption").textContent = `Brighter: speaks more for ${first}. The network saw this crop.`;
}

element("file").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
element("camera").addEventListener("change", (event) => { take(event.target.files[0]); event.target.value = ""; });
element("heat").addEventListener("change", run);
element("topk").addEventListener("change", run);
element("score").addEventListener("input", () => {
  element("score-shown").textContent = percent(lowest()).replace(".00", "");
  state.detected.forEach(([article, answer]) => fillBoxes(article, answer));
});

document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) {
    event.preventDefault();
    take(file);
  } else if (event.target.tagName !== "INPUT") {
    fail("The clipboard holds no image.");
  }
});

let depth = 0; // dragenter and dragleave come for every element below, too
document.addEventListener("dragenter", (event) => { event.preventDefault(); depth += 1; element("drop").classList.add("over"); });
document.addEventListener("dragleave", () => { depth = Math.max(0, depth - 1); if (!depth) element("drop").classList.remove("over"); });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  element("drop").classList.remove("over");
  const file = event.dataTransfer.files[0];
  if (file) take(file);
  else fail("That was no file. Save the image first; addresses are not fetched.");
});

begin();
