// The page: shows an image, a film or the camera under the classes that the net finds.

import { Segmenter } from "./edgeunet.js";
import { Legend } from "./legend.js";
import { startFilm, startCamera } from "./films.js";
import { View } from "./view.js";

const byId = (id) => document.getElementById(id);
const stage = byId("stage");
const view = new View(byId("canvas"));
let net = null;
let classes = [];
let legend = null;
let moving = null; // the film or camera that plays
let latest = null; // the newest result
let job = 0; // counts what was opened: a result of something older is not shown

// Pictures

function show(result) {
  latest = result;
  view.show({ frame: result.frame, ids: result.mask, meta: { size: [result.height, result.width] } });
  legend.update(result, moving === null);
  byId("notice").hidden = true;
  stage.dataset.stale = "false";
  byId("save").disabled = byId("save-mask").disabled = false;
  describe();
}

/** Give the stage the shape of what is opened. */
function shape([height, width]) {
  document.documentElement.style.setProperty("--ratio", width / height);
}

/** End what plays, and begin something else. Returns whether it is still the newest thing opened. */
function begin() {
  moving?.stop();
  moving = null;
  byId("player").hidden = true;
  byId("camera").setAttribute("aria-pressed", "false");
  const mine = ++job;
  return () => mine === job;
}

async function open(file) {
  const current = begin();
  hint(`Opening ${file.name} …`);
  try {
    if (file.type.startsWith("video/")) {
      await play(() => startFilm(byId("video"), file), current);
      return;
    }
    status("Segmenting", "quiet");
    const result = await net.segment(file);
    if (!current()) return result.frame.close();
    shape(result.full);
    show(result);
    showTime(result);
    hint(`${file.name}, ${result.full[1]}×${result.full[0]}, segmented in ${result.total.toFixed(0)} ms.${shrunk(result)}`);
  } catch (error) {
    if (current()) failed(`${file.name}: ${error.message}`);
  }
}

/** start: opens a film or a camera, see `films.js`. */
async function play(start, current) {
  const opened = await start();
  if (!current()) return opened.stop();
  moving = opened;
  shape(opened.size);
  byId("player").hidden = opened.live;
  byId("camera").setAttribute("aria-pressed", String(opened.live));
  opened.onchange = () => current() && showPlayer(opened);
  showPlayer(opened);
  hint(opened.live ? "The pictures of the camera stay in this browser." : "");
  let told = -Infinity;
  try {
    await opened.run(async (video) => {
      const result = await net.segment(video);
      if (!current()) return result.frame.close();
      show(result);
      opened.count(result);
      if (performance.now() - told < 250) return; // faster numbers cannot be read
      told = performance.now();
      showSpeed(opened.speed(), result);
    });
  } catch (error) {
    if (!current()) return;
    begin();
    failed(error.message);
  }
}

function showTime(result) {
  status("Image", "accent");
  figure(result.net, "ms in the net");
  facts([["Whole frame", `${result.total.toFixed(0)} ms`], ["Image", sizeOf(result)]]);
}

function showSpeed(speed, result) {
  figure(speed.rate, "frames/s", 1);
  facts([
    ["Net", `${speed.net.toFixed(0)} ms`],
    ["Whole frame", `${speed.total.toFixed(0)} ms`],
    ["Dropped", `${speed.dropped} of ${speed.dropped + speed.frames}`],
    ["Frame", sizeOf(result)],
  ]);
}

const sizeOf = ({ full }) => `${full[1]}×${full[0]}`;
const shrunk = ({ full, width, height }) =>
  full[1] === width ? "" : ` The mask has ${width}×${height}: more does not fit into a browser's memory.`;

function showPlayer(film) {
  const [text, tone] = film.live ? ["Camera", "good"] : film.paused ? ["Paused", "accent"] : ["Playing", "good"];
  status(text, tone);
  if (film.live) return;
  byId("pause").textContent = film.ended ? "Play again" : film.paused ? "Play" : "Pause";
  byId("position").value = Math.round((1000 * film.position) / film.duration || 0);
  byId("clock").textContent = `${clock(film.position)} / ${clock(film.duration)}`;
}

const clock = (seconds) =>
  Number.isFinite(seconds) ? `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}` : "–";

// Texts

function status(text, tone) {
  if (byId("status-text").textContent !== text) byId("status-text").textContent = text;
  byId("status").dataset.tone = tone;
}

// Touch screens cannot drop files.
const INVITATION = matchMedia("(pointer: coarse)").matches
  ? "Open an image or a film, or start the camera."
  : "Drop or paste an image or a film anywhere on this page.";

function hint(text = "", tone = "") {
  byId("hint").textContent = text;
  byId("hint").dataset.tone = tone;
}

function failed(text) {
  hint(text, "bad");
  status(latest ? "Ready" : "Failed", latest ? "quiet" : "bad");
  if (!latest) invite();
}

function notice(title, text, { busy = false } = {}) {
  byId("notice").hidden = false;
  byId("notice-title").textContent = title;
  byId("notice-text").textContent = text;
  byId("spinner").hidden = !busy;
}

const invite = () => notice(INVITATION, "It stays in this browser: nothing is sent anywhere.");

function figure(value, unit, digits = 0) {
  byId("speed").hidden = false;
  byId("figure").textContent = value.toFixed(digits);
  byId("figure-unit").textContent = unit;
}

function facts(rows) {
  byId("facts").replaceChildren(
    ...rows.flatMap(([term, value]) => [element("dt", term), element("dd", value)]),
  );
}

/** Describe the canvas for screen readers. */
function describe() {
  const largest = classes.map(({ name }, id) => [name, latest.shares[id]]).sort((a, b) => b[1] - a[1]).slice(0, 4);
  const words = largest.filter(([, share]) => share > 0).map(([name, share]) => `${name} ${Math.round(100 * share)} %`);
  byId("canvas").setAttribute("aria-label", `Segmented picture: ${words.join(", ")}`);
}

function element(kind, text = "", name = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = name;
  return made;
}

// The net

async function load() {
  const saved = stored("net");
  const report = (text) => notice(text, "This takes a moment. Later visits start at once.", { busy: true });
  try {
    net = await Segmenter.load("model/", { use: saved?.use, report });
  } catch (error) {
    notice("The net does not start", error.message);
    status("Failed", "bad");
    return;
  }
  if (saved?.use === net.current.name) {
    for (const choice of net.choices) Object.assign(choice, saved.timings[choice.name]);
  }
  setUp();
  netChanged();
  invite();
  byId("camera").disabled = false;
  status("Ready", "quiet");
}

function setUp() {
  // A black class is the background. Drawing it would only darken the picture.
  classes = net.classes.map((item) => ({ ...item, shown: item.colour.some((value) => value > 0) }));
  restoreLook();
  legend = new Legend(byId("legend"), classes, { change: lookChanged, point: (id) => view.look({ spotlight: id }) });
  legend.refresh();
  view.classes = classes;
  const gated = classes.some(({ threshold }) => threshold !== null);
  byId("legend-note").textContent = gated ? "Bar: presence by the gate. Below the mark, the class is closed." : "";
}

/** Show the graphs with their times, and remember which one is used. */
function netChanged() {
  byId("measure").disabled = false;
  byId("choices").replaceChildren(...net.choices.map(choiceRow));
  const threads = net.threads === 1 ? "1 thread" : `${net.threads} threads`;
  const alone = self.crossOriginIsolated ? "" : "; more need a server that isolates the page, as serve.py does";
  const gpu = net.gpu ? "" : " WebGPU: not in this browser.";
  byId("net-note").textContent = `Times of one ${net.about.size[1]}×${net.about.size[0]} frame. WebAssembly: ${threads}${alone}.${gpu}`;
  const timings = Object.fromEntries(net.choices.map(({ name, milliseconds, problem }) => [name, { milliseconds, problem }]));
  store("net", { use: net.current?.name, timings });
}

function choiceRow(choice) {
  const row = element("label", "", "choice");
  const radio = element("input");
  Object.assign(radio, { type: "radio", name: "graph", value: choice.name, checked: choice === net.current });
  radio.disabled = choice.problem !== "" && choice.milliseconds === null;
  radio.addEventListener("change", () => change((report) => net.choose(choice.name, report)));
  const time = choice.milliseconds === null ? "" : `${choice.milliseconds.toFixed(choice.milliseconds < 10 ? 1 : 0)} ms`;
  row.append(radio, element("b", choice.title), element("span", time));
  if (choice.problem) row.append(element("small", choice.problem));
  return row;
}

/** Change the net. What plays waits for it; an image is segmented again. */
async function change(action) {
  byId("measure").disabled = true;
  for (const radio of document.querySelectorAll("[name=graph]")) radio.disabled = true;
  try {
    await action((text) => {
      status("Loading", "quiet");
      hint(`${text} …`);
    });
    hint();
    status("Ready", "quiet");
    if (moving) showPlayer(moving);
    else if (latest) {
      const result = await net.segment(latest.frame);
      show(result);
      showTime(result);
    }
  } catch (error) {
    failed(error.message);
  }
  netChanged();
}

byId("measure").addEventListener("click", () => change((report) => net.measure(report)));

// Settings, kept in this browser

const keyOf = (what) => `edgeunet:${document.title}:${location.pathname}:${what}`;

function store(what, value) {
  try {
    localStorage.setItem(keyOf(what), JSON.stringify(value));
  } catch { /* storage is switched off */ }
}

function stored(what) {
  try {
    return JSON.parse(localStorage.getItem(keyOf(what)));
  } catch {
    return null;
  }
}

function lookChanged() {
  view.refresh();
  store("look", { opacity: byId("opacity").value, hidden: classes.filter(({ shown }) => !shown).map(({ name }) => name) });
}

function restoreLook() {
  const look = stored("look");
  if (!look) return;
  for (const item of classes) item.shown = !look.hidden.includes(item.name);
  byId("opacity").value = look.opacity;
  setOpacity();
}

function setOpacity() {
  const percent = Number(byId("opacity").value);
  byId("opacity-value").textContent = `${percent} %`;
  view.look({ opacity: percent / 100 });
}

function switchAll(shown) {
  for (const item of classes) item.shown = shown;
  legend?.refresh();
  lookChanged();
}

byId("opacity").addEventListener("input", setOpacity);
byId("opacity").addEventListener("change", lookChanged);
byId("all").addEventListener("click", () => switchAll(true));
byId("none").addEventListener("click", () => switchAll(false));
for (const radio of document.querySelectorAll("[name=style]")) {
  radio.addEventListener("change", () => view.look({ style: radio.value }));
}

// Buttons

byId("pause").addEventListener("click", () => moving?.toggle());
byId("position").addEventListener("input", () => moving?.seek(byId("position").value / 1000));
byId("camera").addEventListener("click", async () => {
  if (moving?.live) {
    begin();
    status("Ready", "quiet");
    hint();
    return;
  }
  const current = begin();
  hint("Waiting for the camera …");
  try {
    await play(() => startCamera(byId("video"), net.about.size), current);
  } catch (error) {
    if (current()) failed(error.message);
  }
});
byId("fullscreen").addEventListener("click", () => stage.requestFullscreen());
byId("fullscreen").hidden = !document.fullscreenEnabled;
byId("save").addEventListener("click", () => byId("canvas").toBlob((blob) => save(blob, "picture")));
byId("save-mask").addEventListener("click", async () => save(await latest.toPng(), "mask"));

function save(blob, what) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${what}-${new Date().toISOString().replace(/[:.]/g, "-")}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// The class under the pointer

stage.addEventListener("pointermove", (event) => {
  const item = classes[view.classAt(event.clientX, event.clientY)];
  const tag = byId("tag");
  tag.hidden = !item;
  if (!item) return;
  const swatch = document.createElement("i");
  swatch.style.setProperty("--class", `rgb(${item.colour.join(" ")})`);
  tag.replaceChildren(swatch, item.name);
  const box = stage.getBoundingClientRect();
  const x = Math.min(event.clientX - box.left + 14, box.width - tag.offsetWidth - 4);
  const y = Math.min(event.clientY - box.top + 16, box.height - tag.offsetHeight - 4);
  tag.style.transform = `translate(${x}px, ${y}px)`;
});
stage.addEventListener("pointerleave", () => (byId("tag").hidden = true));

// Files

const ready = load(); // files that come before wait for it

async function take(files) {
  await ready;
  if (net && files.length) open(files[0]);
}

byId("file").addEventListener("change", (event) => {
  take([...event.target.files]);
  event.target.value = "";
});
let inside = 0; // elements that a dragged file has entered but not left
const holdsFile = (event) => event.dataTransfer?.types.includes("Files");
addEventListener("dragenter", (event) => {
  if (holdsFile(event) && ++inside) byId("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (holdsFile(event) && --inside <= 0) byId("drop").hidden = true;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  byId("drop").hidden = true;
  take([...event.dataTransfer.files]);
});
addEventListener("paste", (event) => take([...event.clipboardData.files]));
