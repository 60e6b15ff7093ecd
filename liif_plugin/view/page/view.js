// The page: which part of the picture is shown, what it is compared with, and the controls: mouse, wheel, touch,
// keyboard, buttons, address bar.

import { Layer, addressOf, thumbnail } from "/layer.js";

const element = (id) => document.getElementById(id);
const stage = element("stage");
const about = await (await fetch(addressOf("/about"))).json();
const look = { x: about.width / 2, y: about.height / 2, scale: 1, split: 0.5, compare: "bicubic", cell: "true", ensemble: about.ensemble };
const screen = { width: 0, height: 0, ratio: 1 };  // in its own pixels
const right = new Layer(element("right"), "right", showStatus);
const left = new Layer(element("left"), "left", showStatus);

// ---- the view

function clampLook() {
  look.scale = bounded(look.scale);
  look.x = Math.min(Math.max(look.x, 0), about.width);
  look.y = Math.min(Math.max(look.y, 0), about.height);
}

// six digits: what the address holds, so that it restores the very same pixels
const bounded = (scale) =>
  Number(Math.min(Math.max(scale, Math.min(fitScale(), 1) / 4, about.scales[0]), about.scales[1]).toPrecision(6));

const fitScale = () => Math.min(screen.width / about.width, screen.height / about.height);

// The request for what is on the screen
function viewOf(layer, cell, ensemble) {
  const snapped = (at, length) => Math.round(at * look.scale - length / 2) / look.scale;  // whole screen pixels from the picture's corner
  return { x: snapped(look.x, screen.width), y: snapped(look.y, screen.height), scale: look.scale,
           width: screen.width, height: screen.height, layer, cell, ensemble };
}

let frame = 0;
function changed() {  // many times a frame while dragging
  clampLook();
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    if (!screen.width || !screen.height) return;  // not laid out yet, or hidden
    const reference = { bicubic: "bicubic", nearest: "nearest", trained: "network" }[look.compare];
    right.show(viewOf("network", look.cell, look.ensemble));
    left.show(reference ? viewOf(reference, "true", about.ensemble) : null);
    layOut();
    writeAddress();
  });
}

// Place canvases, slider and labels
function layOut() {
  const css = screen.width / screen.ratio;
  const at = look.compare === "nothing" ? 0 : look.split * css;
  for (const layer of [left, right]) {
    layer.canvas.style.width = `${css}px`;
    layer.canvas.style.height = `${screen.height / screen.ratio}px`;
  }
  left.canvas.style.clipPath = `inset(0 ${css - at}px 0 0)`;
  right.canvas.style.clipPath = `inset(0 0 0 ${at}px)`;
  for (const id of ["slider", "left-tag", "right-tag"]) {
    element(id).hidden = look.compare === "nothing";
    element(id).style.left = `${at}px`;
  }
  element("slider").setAttribute("aria-valuenow", Math.round(look.split * 100));
  element("scale").value = `×${look.scale >= 100 ? look.scale.toFixed(0) : look.scale.toPrecision(3)}`;
  const cell = element("cell").selectedOptions[0].textContent;
  const asIs = [look.cell === "true" ? "" : `cell ${cell}`, look.ensemble || !about.ensemble ? "" : "no ensemble"].filter(Boolean);
  element("right-tag").textContent = [about.model, ...asIs].join(", ");
  element("left-tag").textContent = look.compare === "trained" ? `${about.model} as trained` : look.compare;
  if (!about.clear) return;
  const view = viewOf(), paper = element("paper").style;
  paper.display = "block";
  [paper.left, paper.top] = [-view.x, -view.y].map((n) => `${n * look.scale / screen.ratio}px`);
  [paper.width, paper.height] = [about.width, about.height].map((n) => `${n * look.scale / screen.ratio}px`);
}

// Show what both layers are doing
function showStatus() {
  const sides = [right, left];
  const problem = sides.map((side) => side.problem).find(Boolean);
  const busy = sides.find((side) => !side.settled);
  const state = problem && !busy ? "wrong" : busy ? (right.settled ? left : right).state : "sharp";
  document.documentElement.dataset.state = state;
  element("status").classList.toggle("wrong", state === "wrong");
  element("status").textContent =
    state === "wrong" ? problem : state === "coarse" ? "coarse …" : state !== "sharp" ? "sharpening …"
      : look.scale < 1 ? "below ×1: the picture, shrunk" : `sharp, ${right.seconds.toFixed(2)} s`;
}

function zoom(factor, x = screen.width / 2, y = screen.height / 2) {  // x, y: the point that stays, in screen pixels
  const before = look.scale;
  look.scale = bounded(look.scale * factor);
  look.x += (x - screen.width / 2) * (1 / before - 1 / look.scale);
  look.y += (y - screen.height / 2) * (1 / before - 1 / look.scale);
  changed();
}

function move(dx, dy) {  // in screen pixels
  look.x -= dx / look.scale;
  look.y -= dy / look.scale;
  changed();
}

// Show the whole picture
function fit() {
  Object.assign(look, { x: about.width / 2, y: about.height / 2, scale: fitScale() });
  changed();
}

// ---- mouse, touch, wheel

const pointers = new Map();

function moveSlider(event) {
  look.split = Math.min(Math.max(event.clientX * screen.ratio / screen.width, 0), 1);
  layOut();
  writeAddress();
}

stage.addEventListener("pointerdown", (event) => {
  if (event.button) return;
  stage.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY, slider: event.target.closest("#slider") !== null });
  stage.classList.add("held");
});
stage.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const now = { ...before, x: event.clientX, y: event.clientY };
  pointers.set(event.pointerId, now);
  if (before.slider) return moveSlider(event);
  const fingers = [...pointers.values()].filter((finger) => !finger.slider);
  if (fingers.length === 1) return move((now.x - before.x) * screen.ratio, (now.y - before.y) * screen.ratio);
  const other = fingers.find((finger) => finger !== now);
  const middle = (a) => [(a.x + other.x) / 2 * screen.ratio, (a.y + other.y) / 2 * screen.ratio];
  const distance = (a) => Math.max(Math.hypot(a.x - other.x, a.y - other.y), 1);
  const [from, to] = [middle(before), middle(now)];
  move(to[0] - from[0], to[1] - from[1]);
  zoom(distance(now) / distance(before), ...to);
});
for (const end of ["pointerup", "pointercancel"])
  stage.addEventListener(end, (event) => {
    pointers.delete(event.pointerId);
    if (!pointers.size) stage.classList.remove("held");
  });
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const lines = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1;
  const strength = event.ctrlKey ? 0.01 : 0.0015;  // a pinch on a touchpad comes as a small wheel with Ctrl
  const turned = Math.min(Math.max(event.deltaY * lines * strength, -1), 1);
  zoom(Math.exp(-turned), event.clientX * screen.ratio, event.clientY * screen.ratio);
}, { passive: false });
stage.addEventListener("dblclick", (event) => zoom(2, event.clientX * screen.ratio, event.clientY * screen.ratio));

// ---- keyboard, buttons, switches

const panStep = () => Math.min(screen.width, screen.height) / 8;
const keys = {
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "_": () => zoom(0.8), 0: fit, 1: () => zoom(1 / look.scale),
  ArrowLeft: () => move(panStep(), 0), ArrowRight: () => move(-panStep(), 0), ArrowUp: () => move(0, panStep()), ArrowDown: () => move(0, -panStep()),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("select") || !keys[event.key]) return;
  event.preventDefault();
  const side = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
  if (event.target.id !== "slider" || !side) return keys[event.key]();
  look.split = Math.min(Math.max(look.split + side, 0), 1);
  layOut();
  writeAddress();
});

element("in").onclick = () => zoom(1.5);
element("out").onclick = () => zoom(1 / 1.5);
element("fit").onclick = fit;
element("one").onclick = keys[1];
element("compare").onchange = (event) => { look.compare = event.target.value; changed(); };
element("cell").onchange = (event) => { look.cell = event.target.value; changed(); };
element("ensemble").onchange = (event) => { look.ensemble = event.target.checked; changed(); };

element("link").onclick = async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    flash("link", "Copied");
  } catch {
    prompt("The address of this view:", location.href);  // no clipboard without https or localhost
  }
};

element("save").onclick = async () => {
  while (!(right.settled && left.settled)) await new Promise((next) => setTimeout(next, 50));
  const whole = document.createElement("canvas");
  [whole.width, whole.height] = [screen.width, screen.height];
  const context = whole.getContext("2d");
  const at = look.compare === "nothing" ? 0 : Math.round(look.split * screen.width);
  context.drawImage(right.canvas, at, 0, screen.width - at, screen.height, at, 0, screen.width - at, screen.height);
  if (at) context.drawImage(left.canvas, 0, 0, at, screen.height, 0, 0, at, screen.height);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await new Promise((done) => whole.toBlob(done, "image/png")));
  link.download = `${about.name.replace(/\.[^.]*$/, "")}_x${Number(look.scale.toPrecision(3))}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  flash("save", "Saved");
};

// Show a word on a button for a moment
function flash(id, word) {
  const button = element(id), before = button.textContent;
  if (before === word) return;
  button.textContent = word;
  setTimeout(() => { button.textContent = before; }, 1200);
}

// ---- the address: #x=..&y=..&scale=..; written when nothing has changed for a moment, because browsers limit how often

let writeTimer = 0;
function writeAddress() {
  clearTimeout(writeTimer);
  writeTimer = setTimeout(() => {
    const digits = Math.min(Math.max(Math.ceil(Math.log10(look.scale)) + 4, 4), 10);
    const parts = { x: look.x.toFixed(digits), y: look.y.toFixed(digits), scale: look.scale,
                    compare: look.compare, split: look.split.toFixed(3), cell: look.cell, ensemble: look.ensemble ? 1 : 0 };
    history.replaceState(null, "", `#${new URLSearchParams(parts)}`);
  }, 150);
}

// Take the view from the address; return false if that has none
function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const numbers = Object.fromEntries(["x", "y", "scale", "split"].map((name) => [name, parseFloat(parameters.get(name))]));
  if (!(Number.isFinite(numbers.x) && Number.isFinite(numbers.y) && numbers.scale > 0)) return false;
  Object.assign(look, { x: numbers.x, y: numbers.y, scale: numbers.scale });
  if (numbers.split >= 0 && numbers.split <= 1) look.split = numbers.split;
  const offered = (id, value) => [...element(id).options].some((option) => option.value === value);
  if (offered("compare", parameters.get("compare"))) look.compare = parameters.get("compare");
  if (offered("cell", parameters.get("cell")) && about.cell) look.cell = parameters.get("cell");
  look.ensemble = about.ensemble && parameters.get("ensemble") !== "0";
  showSwitches();
  return true;
}

// Show the values of `look` in the controls
function showSwitches() {
  element("compare").value = look.compare;
  element("cell").value = look.cell;
  element("ensemble").checked = look.ensemble;
}

window.addEventListener("hashchange", () => { if (readAddress()) changed(); });

// ---- start

const resized = new ResizeObserver(([entry]) => {
  const exact = entry.devicePixelContentBoxSize?.[0];
  const first = !screen.width;
  screen.ratio = window.devicePixelRatio || 1;
  screen.width = exact ? exact.inlineSize : Math.round(stage.clientWidth * screen.ratio);
  screen.height = exact ? exact.blockSize : Math.round(stage.clientHeight * screen.ratio);
  const shrink = Math.sqrt(about.max_pixels / (screen.width * screen.height));
  if (shrink < 1) {  // a screen of more pixels than a view may have
    screen.ratio *= shrink;
    screen.width = Math.floor(screen.width * shrink);
    screen.height = Math.floor(screen.height * shrink);
  }
  if (first && !readAddress()) fit();
  changed();
});
try {
  resized.observe(stage, { box: "device-pixel-content-box" });
} catch {
  resized.observe(stage);  // Safari
}

document.title = `${about.name} · liif view`;
element("name").textContent = about.name;
element("size").textContent = `${about.width} × ${about.height}`;
element("model").textContent = `${about.model}: ${about.how}`;
element("cell").disabled = !about.cell;
element("ensemble").disabled = !about.ensemble;
showSwitches();
left.overview = right.overview = await thumbnail(about, 512);
changed();
