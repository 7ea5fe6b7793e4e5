// One photo at a time. Its bytes stay in this page and go to the server with each question; the server keeps nothing.
"use strict";

const $ = (id) => document.getElementById(id);

let network; // what the server says about it
let photo; // the file's bytes
let place; // of the chosen pixel: { row, column }, shares of the photo's height and width
let task = new AbortController(); // aborted when another photo or pixel is chosen

async function ask(path, { body, signal } = {}) {
  let response;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("no answer: does boxconv demo-app still run?");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function stop() {
  task.abort();
  return (task = new AbortController());
}

// Does `work`, which may return a sentence to leave on the page, and shows what goes wrong.
async function doing(what, work) {
  const mine = stop();
  const end = (status, error) => {
    if (mine !== task) return; // something newer has begun
    $("status").textContent = status;
    $("error").textContent = error;
  };
  end(what, "");
  try {
    end((await work(mine.signal)) ?? "", "");
  } catch (error) {
    end("", `${error.message[0].toUpperCase()}${error.message.slice(1)}.`.replace(/([.?!])\.$/, "$1"));
  }
}

function take(files) {
  doing("Looking at the photo …", async (signal) => {
    const file = files[0];
    if (!file) throw new Error("that is no file: drop an image file, not a link or a text");
    if (file.size > network.megabytes * 2 ** 20) throw new Error(`this file has more than ${network.megabytes} MB`);
    const bytes = await file.arrayBuffer();
    const answer = await ask("labels", { body: bytes, signal });
    photo = bytes;
    showPhoto(answer);
    return answer.note || "Click a pixel to see why the network says what it says there.";
  });
}

function showPhoto(answer) {
  forget();
  $("photo").src = answer.photo;
  $("map").src = answer.map;
  const ratio = answer.width / answer.height;
  $("stage").style.aspectRatio = ratio;
  $("stage").style.maxWidth = `calc(80vh * ${ratio})`;
  fill($("shares"), answer.shares);
  $("drop").hidden = true;
  $("stage").hidden = $("panel").hidden = false;
  document.querySelector("main").classList.add("open");
  show("classes");
}

// Names with colours, percentages and bars.
function fill(element, entries) {
  element.replaceChildren(
    ...entries.map(({ name, colour, share }) => {
      const [item, patch, bar] = ["li", "i", "div"].map((tag) => document.createElement(tag));
      patch.style.background = bar.style.background = colour;
      bar.style.width = `${100 * share}%`;
      const percent = share < 0.0005 ? "< 0.1" : (100 * share).toFixed(1);
      item.append(patch, text("span", name), text("b", `${percent}\u00a0%`), bar);
      return item;
    }),
  );
}

function text(tag, content) {
  const element = document.createElement(tag);
  element.textContent = content;
  return element;
}

function choose(row, column) {
  const last = 1 - 1e-6;
  place = { row: Math.min(Math.max(row, 0), last), column: Math.min(Math.max(column, 0), last) };
  $("mark").style.top = `${100 * place.row}%`;
  $("mark").style.left = `${100 * place.column}%`;
  $("mark").hidden = false;
  $("stage").classList.add("chosen");
  if (view() === "classes") show("context");
  showBoxes();
  doing("Looking at this pixel …", async (signal) => {
    await new Promise((done) => setTimeout(done, 150)); // an arrow key that is held down asks once, at its end
    if (signal.aborted) return "";
    const answer = await ask(`context?${new URLSearchParams(place)}`, { body: photo, signal });
    fill($("likely"), answer.classes);
    $("answer").hidden = false;
    $("heat").src = answer.heat;
    $("context-text").textContent = contextText(answer);
    return "Another click, or an arrow key, moves the pixel.";
  });
}

function contextText({ classes, radius }) {
  if (radius.half === null) return "Here the answer does not depend on the photo at all.";
  const square = (pixels) => {
    const share = Math.round((100 * (2 * pixels + 1)) / network.width);
    return share < 100 ? `${share}\u00a0% as wide as the photo` : "wider than the photo";
  };
  return (
    `Bright: there a small change of the photo changes the answer “${classes[0].name}” most. Half of this effect comes ` +
    `from a square around the pixel that is ${square(radius.half)}, 90\u00a0% from one that is ${square(radius.most)}. ` +
    "Brightness is the square root of the effect, so that weak effects of far places are seen, too."
  );
}

async function showBoxes() {
  if (!place || !network.layers.length) return;
  const asked = { layer: $("layer").value, ...place };
  let answer;
  try {
    answer = await ask(`boxes?${new URLSearchParams(asked)}`);
  } catch (error) {
    $("error").textContent = error.message;
    return;
  }
  if (asked.layer !== $("layer").value || asked.row !== place?.row || asked.column !== place.column) return;
  $("boxes").replaceChildren(...answer.boxes.map(rectangle));
  const { length } = answer.boxes;
  const which = length === answer.count ? `All ${length}` : `${length} of ${answer.count}`;
  const kind = length === answer.count ? "" : answer.ranked ? ", the most important ones" : ", the largest ones";
  $("boxes-text").textContent =
    `${which} boxes${kind}. The layer averages over each of them to know what is around the pixel.` +
    (answer.ranked ? " Strong lines: the network listens more to this box." : "");
}

function rectangle({ top, bottom, left, right, weight }, index) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const colour = `hsl(${(index * 222.5) % 360} 90% 65%)`;
  const values = { x: left, y: top, width: right - left, height: bottom - top };
  for (const [name, value] of Object.entries(values)) element.setAttribute(name, 1000 * value);
  element.style.stroke = element.style.fill = colour;
  element.style.strokeOpacity = 0.1 + 0.9 * weight;
  element.style.fillOpacity = 0.08 * weight;
  return element;
}

const view = () => document.querySelector("[name=view]:checked").value;

function show(name) {
  document.querySelector(`[name=view][value=${name}]`).checked = true;
  document.body.dataset.view = name;
}

// The chosen pixel, but not the photo.
function forget() {
  place = undefined;
  $("mark").hidden = $("answer").hidden = true;
  $("heat").removeAttribute("src");
  $("stage").classList.remove("chosen");
  $("boxes").replaceChildren();
  for (const name of ["boxes", "context"]) $(`${name}-text`).textContent = $(`${name}-text`).dataset.before;
}

function another() {
  stop();
  photo = undefined;
  forget();
  $("stage").hidden = $("panel").hidden = true;
  $("drop").hidden = false;
  $("status").textContent = $("error").textContent = "";
  document.querySelector("main").classList.remove("open");
  $("file").focus();
}

function listen() {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const over = (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", event.type === "dragover");
  };
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", over);
  document.addEventListener("drop", (event) => {
    over(event);
    take(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files);
  });
  $("file").addEventListener("change", () => {
    if ($("file").files.length) take($("file").files);
    $("file").value = ""; // so that the same file can be chosen again
  });
  $("stage").addEventListener("click", (event) => {
    const { top, left, width, height } = $("stage").getBoundingClientRect();
    choose((event.clientY - top) / height, (event.clientX - left) / width);
  });
  $("stage").addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const length = event.shiftKey ? 0.1 : 0.02;
    const from = place ?? { row: 0.5, column: 0.5 };
    choose(from.row + step[0] * length, from.column + step[1] * length);
  });
  for (const input of document.querySelectorAll("[name=view]")) {
    input.addEventListener("change", () => show(input.value));
  }
  $("opacity").addEventListener("input", () => ($("map").style.opacity = $("opacity").value / 100));
  $("layer").addEventListener("change", showBoxes);
  $("another").addEventListener("click", another);
}

async function start() {
  for (const name of ["boxes", "context"]) $(`${name}-text`).dataset.before = $(`${name}-text`).textContent;
  $("map").style.opacity = $("opacity").value / 100;
  show("classes");
  await doing("", async () => {
    network = await ask("network");
    $("name").textContent = network.name;
    $("about").textContent =
      `It sees a photo at ${network.height} × ${network.width} pixels (height × width) and knows ` +
      `${network.classes.length} classes: ${network.classes.join(", ")}. The photo is not stored anywhere.`;
    $("layer").replaceChildren(...network.layers.map((name) => text("option", name)));
    document.querySelector("[value=boxes]").parentElement.hidden = !network.layers.length;
    listen();
  });
}

start();
