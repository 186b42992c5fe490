// The page: shows the stream, a paused picture or an uploaded image, with status and controls.

import { Camera, obstacle } from "./camera.js";
import { Compare } from "./compare.js";
import { Look, saveCanvas, takeFiles } from "./look.js";
import { resetCurve, showNumbers } from "./numbers.js";
import { readPicture, readPictures } from "./records.js";
import { Recorder } from "./recorder.js";
import { Sources, Views, focused, stateOf, stateOfAll } from "./sources.js";
import { View } from "./view.js";

const byId = (id) => document.getElementById(id);
const stage = byId("stage");
const sources = new Sources(byId("picker"), byId("grid"), chose);
const view = new Views(new View(byId("canvas")), sources);
const look = new Look(view);
const compare = new Compare(stage, view);
const recorder = new Recorder(() => sources.query, () => poll());
let limits = null;
let camera = null; // of this device
let mode = "live"; // "live", "paused", "image" or "camera"
let watching = null; // AbortController of the stream
let server = { text: "Connecting", tone: "quiet", title: "Connecting", reason: "", stale: true };
let refused = ""; // why the server refuses another viewer
let shaped = ""; // the mode and source whose first picture set the aspect ratio of the stage

// The token is in a cookie now. Remove it from the address, so that nobody copies it by accident.
if (location.search.includes("token=")) history.replaceState(null, "", location.pathname + location.hash);

// Pictures

function show(picture) {
  if (showsAll()) {
    sources.show(picture);
    look.update(sources.meta);
    return;
  }
  view.show(compare.composed(picture));
  look.update(picture.meta, mode === "image");
  const shape = `${mode}/${picture.meta.source}`;
  if (shaped !== shape) {
    shaped = shape;
    const [height, width] = picture.meta.size;
    document.documentElement.style.setProperty("--ratio", width / height);
  }
  showStatus();
}

/** Whether the grid of all sources is shown. */
function showsAll() {
  return ["live", "paused"].includes(mode) && sources.known && sources.chosen === null;
}

/** The viewer chose another source, or all. */
function chose() {
  view.forget();
  resetCurve();
  setMode("live");
  poll();
}

async function watch() {
  watching?.abort();
  if (!sources.known) return; // `setUp` calls again
  const control = (watching = new AbortController());
  for (let wait = 1000; !control.signal.aborted; wait = Math.min(2 * wait, 8000)) {
    try {
      const response = await fetch(`stream?${sources.query}`, { signal: control.signal, cache: "no-store" });
      refused = response.status === 503 ? (await response.json()).error : "";
      showStatus();
      if (response.ok) {
        wait = 500;
        await readPictures(response, (picture) => control.signal.aborted || show(picture));
      }
    } catch (error) {
      if (control.signal.aborted) return;
    }
    await new Promise((resume) => setTimeout(resume, wait));
  }
}

function setMode(next) {
  if (next === "live" && ["image", "camera"].includes(mode)) view.forget();
  mode = next;
  if (mode === "live" && !document.hidden) watch();
  else watching?.abort();
  byId("pause").setAttribute("aria-pressed", String(mode === "paused"));
  if (mode !== "camera") camera?.stop();
  byId("pause").hidden = mode === "image" || mode === "camera";
  byId("back").hidden = mode !== "image" && mode !== "camera";
  byId("camera").setAttribute("aria-pressed", String(mode === "camera"));
  byId("pace").hidden = byId("switch").hidden = true;
  if (mode === "live") hint();
  showStatus();
}

// Status and texts

function showStatus() {
  stage.hidden = showsAll();
  byId("grid").hidden = !stage.hidden;
  // The canvas still holds what was shown before, which may be of another source.
  byId("canvas").hidden = !view.picture;
  byId("save").hidden = stage.hidden || !view.picture;
  const pill = { live: null, paused: ["Paused", "accent"], image: ["Your image", "accent"], camera: ["Your camera", "good"] }[mode];
  const [text, tone] = pill ?? (refused ? ["Full", "warn"] : [server.text, server.tone]);
  if (byId("status-text").textContent !== text) byId("status-text").textContent = text;
  byId("status").dataset.tone = tone;
  const stale = mode === "live" && (server.stale || Boolean(refused) || !view.picture);
  stage.dataset.stale = String(stale);
  byId("notice").hidden = !stale;
  const waitsForFirst = !server.stale && !view.picture;
  byId("notice-title").textContent = refused ? "The server is full" : waitsForFirst ? "Waiting for the first frame" : server.title;
  byId("notice-text").textContent = refused || (waitsForFirst ? "" : server.reason);
  byId("spinner").hidden = server.tone === "bad" || Boolean(refused);
  if (refused || server === AWAY) sources.halt(refused || server.title);
  compare.hidden = stage.hidden || !view.picture;
  byId("side").dataset.old = String(server === AWAY);
}

const AWAY = { text: "No server", tone: "bad", title: "The server does not answer", reason: "This page continues when the server is back.", stale: true };

async function poll() {
  try {
    const response = await fetch("stats", { cache: "no-store" });
    if (response.status === 401) location.reload();
    const stats = await response.json();
    limits = stats.upload;
    if (!sources.known) setUp(stats);
    const { chosen } = sources;
    sources.update(stats.sources);
    server = chosen === null ? stateOfAll(stats.sources) : stateOf(stats.sources.find(({ name }) => name === chosen));
    showNumbers(focused(stats, chosen));
    compare.update(stats, chosen);
    recorder.update(stats.recordings, chosen);
    if (view.picture && !showsAll()) look.describe(view.picture.meta.shares);
  } catch (error) {
    server = AWAY;
  }
  showStatus();
}

function setUp(stats) {
  sources.setUp(stats.sources);
  const wheres = stats.sources.map(({ where }) => where);
  const name = wheres.length === 1 ? wheres[0] : `${wheres.length} sources`;
  const strong = document.createElement("b");
  strong.textContent = name;
  const parts = [stats.model, stats.precision.toUpperCase(), stats.backend, stats.input.join("×")];
  byId("what").replaceChildren(strong, ` · ${parts.join(" · ")}`);
  byId("what").title = wheres.join("\n");
  document.title = `${name} – edgeunet`;
  look.start(stats.classes, `edgeunet:${stats.classes.map((item) => item.name).join()}`);
  if (stats.compare) view.classes = Compare.classes(look.classes);
  if (mode === "live" && !document.hidden) watch();
}

// Touch screens cannot drop files.
const INVITATION = matchMedia("(pointer: coarse)").matches ? "" : "Drop or paste an image anywhere on this page to segment it.";

function hint(text = INVITATION, tone = "") {
  byId("hint").textContent = text;
  byId("hint").dataset.tone = tone;
}

// The camera of this device

async function startCamera() {
  const problem = obstacle();
  if (problem || !limits) return hint(problem || "The server does not answer.", "bad");
  setMode("camera");
  camera ??= new Camera(byId("video"), limits.frame, {
    show,
    tell: (text) => hint(text || "Frames go to the server, which keeps none.", text ? "bad" : ""),
    pace: (rate, there, inNet) => {
      byId("pace").hidden = false;
      byId("pace").textContent = `${rate.toFixed(1)} frames/s, ${there.toFixed(0)} ms to the mask, ${inNet.toFixed(0)} of them in the net`;
    },
  });
  hint("Waiting for the camera …");
  try {
    await camera.start();
    if (mode === "camera") byId("switch").hidden = !(await camera.hasOthers());
  } catch (error) {
    if (mode !== "camera") return;
    setMode("live");
    hint(error.message, "bad");
  }
}

byId("camera").addEventListener("click", () => (mode === "camera" ? setMode("live") : startCamera()));
byId("switch").addEventListener("click", async () => {
  byId("switch").disabled = true;
  await camera.switch().catch((error) => mode === "camera" && hint(error.message, "bad"));
  byId("switch").disabled = false;
});

// Buttons

byId("pause").addEventListener("click", () => setMode(mode === "paused" ? "live" : "paused"));
byId("back").addEventListener("click", () => setMode("live"));
byId("fullscreen").addEventListener("click", () => (showsAll() ? byId("grid") : stage).requestFullscreen());
byId("fullscreen").hidden = !document.fullscreenEnabled;
byId("save").addEventListener("click", () => saveCanvas(byId("canvas"), "edgeunet"));

// Uploads

async function segment(file) {
  if (limits && file.size > limits.size) {
    hint(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB; up to ${limits.size / 1e6} MB are allowed.`, "bad");
    return;
  }
  hint(`Segmenting ${file.name} …`);
  try {
    const response = await fetch("segment", { method: "POST", body: file, headers: { Accept: "application/octet-stream" } });
    if (!response.ok) throw new Error((await response.json()).error);
    const picture = await readPicture(response);
    setMode("image");
    show(picture);
    const [height, width] = picture.meta.full;
    hint(`${file.name}, ${width}×${height}, segmented in ${picture.meta.milliseconds.toFixed(0)} ms.`);
  } catch (error) {
    hint(`${file.name}: ${error.message}`, "bad");
  }
}

takeFiles(segment);

// A hidden page must not cost the server anything, nor one that the browser keeps for its back button.
function rest() {
  watching?.abort();
  camera?.stop();
}

function resume() {
  if (mode === "live") watch();
  else if (mode === "camera") startCamera();
}

document.addEventListener("visibilitychange", () => (document.hidden ? rest() : resume()));
addEventListener("pagehide", rest);
addEventListener("pageshow", (event) => event.persisted && resume());
setInterval(() => document.hidden || poll(), 1000);
hint();
poll();
