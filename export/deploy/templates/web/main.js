// The page: shows an image, a film or the camera under the classes that the net finds.

import { Segmenter } from "./edgeunet.js";
import { startFilm, startCamera } from "./films.js";
import { Look, save, saveCanvas, store, stored, takeFiles } from "./look.js";
import { View } from "./view.js";

const byId = (id) => document.getElementById(id);
const stage = byId("stage");
const view = new View(byId("canvas"));
const look = new Look(view);
let net = null;
let moving = null; // the film or camera that plays
let latest = null; // the newest result
let job = 0; // counts what was opened: a result of something older is not shown

// Pictures

function show(result) {
  latest = result;
  view.show({ frame: result.frame, ids: result.mask, meta: { size: [result.height, result.width] } });
  look.update(result, moving === null);
  byId("notice").hidden = true;
  stage.dataset.stale = "false";
  byId("save").disabled = byId("save-mask").disabled = false;
  look.describe(result.shares);
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

function element(kind, text = "", name = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = name;
  return made;
}

// The net

async function load() {
  const saved = stored(keyOf("net"));
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
  look.start(net.classes, keyOf("look"));
  netChanged();
  invite();
  byId("camera").disabled = false;
  status("Ready", "quiet");
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
  store(keyOf("net"), { use: net.current?.name, timings });
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

// The name under which this browser keeps something of the page.
const keyOf = (what) => `edgeunet:${document.title}:${location.pathname}:${what}`;

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
byId("save").addEventListener("click", () => saveCanvas(byId("canvas"), "picture"));
byId("save-mask").addEventListener("click", async () => save(await latest.toPng(), "mask"));

// Files

const ready = load(); // files that come before wait for it

takeFiles(async (file) => {
  await ready;
  if (net) open(file);
});
