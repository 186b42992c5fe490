// Several sources: a picker with the state of each, and a grid of all of them.

import { View } from "./view.js";

/** What the server says of a source, in words. stale: its picture is not what the camera sees now. */
export function stateOf({ status, live }) {
  const { state, reason, retrying } = status;
  if (state === "playing") return { text: live ? "Live" : "Playing", tone: "good", title: "", reason: "", stale: false };
  if (state === "starting") return { text: "Starting", tone: "quiet", title: "Starting", reason: "", stale: true };
  if (state === "waiting") return { text: "No frames", tone: "warn", title: "No frames from the source", reason, stale: true };
  if (retrying) return { text: "Reconnecting", tone: "warn", title: "Source lost. Trying again", reason, stale: true };
  return { text: "Stopped", tone: "bad", title: "Source failed", reason, stale: true };
}

export class Sources {
  #picker;
  #grid;
  #entries = new Map(); // by name: {tile, view, dot, caption, notice, about}
  #meta = new Map();

  /** choose: called when the viewer picks a source, or all of them. */
  constructor(picker, grid, choose) {
    this.#picker = picker;
    this.#grid = grid;
    addEventListener("hashchange", () => {
      this.#mark();
      choose();
    });
  }

  get known() {
    return this.#entries.size > 0;
  }

  /** The source that is shown large, null for the grid of all. */
  get chosen() {
    const names = [...this.#entries.keys()];
    const wanted = decoded(location.hash.slice(1));
    return names.length === 1 ? names[0] : names.includes(wanted) ? wanted : null;
  }

  /** Query of the stream that shows what is chosen. */
  get query() {
    const names = this.chosen === null ? [...this.#entries.keys()] : [this.chosen];
    return new URLSearchParams(names.map((name) => ["source", name])).toString();
  }

  get views() {
    return [...this.#entries.values()].map(({ view }) => view);
  }

  setUp(sources) {
    const columns = Math.ceil(Math.sqrt(sources.length));
    this.#grid.style.setProperty("--columns", columns);
    this.#grid.style.setProperty("--rows", Math.ceil(sources.length / columns));
    for (const { name } of sources) this.#entries.set(name, this.#tile(name));
    this.#picker.hidden = sources.length === 1;
    const all = [["", "All"], ...sources.map(({ name }) => [name, name])];
    this.#picker.replaceChildren(...all.map(([name, text]) => this.#option(name, text)));
    this.#mark();
  }

  /** Show the states of all. */
  update(sources) {
    for (const source of sources) {
      const entry = this.#entries.get(source.name);
      if (!entry) continue;
      const state = stateOf(source);
      entry.about = source;
      const waits = !state.stale && !entry.view.picture;
      for (const place of [entry.tile, entry.dot]) place.dataset.tone = state.tone;
      entry.tile.dataset.stale = String(state.stale || waits);
      entry.caption.textContent = state.stale ? state.text : `${source.fps.toFixed(source.fps < 9.95 ? 1 : 0)} frames/s`;
      entry.notice.textContent = state.reason || (state.stale || waits ? state.title || "Waiting for the first frame" : "");
    }
  }

  /** Say in all tiles why nothing comes. */
  halt(reason) {
    for (const { tile, notice } of this.#entries.values()) {
      tile.dataset.stale = "true";
      notice.textContent = reason;
    }
  }

  /** Show a picture in its tile. */
  show(picture) {
    const entry = this.#entries.get(picture.meta.source);
    if (!entry) return;
    if (this.#meta.size === 0) {
      const [height, width] = picture.meta.size;
      this.#grid.style.setProperty("--tile", Math.min(Math.max(width / height, 1.2), 1.8));
    }
    entry.view.show(picture);
    this.#meta.set(picture.meta.source, picture.meta);
  }

  /** Numbers of the last pictures of all: the mean share of each class. */
  get meta() {
    const metas = [...this.#meta.values()];
    const shares = metas[0].shares.map((_, id) => metas.reduce((sum, meta) => sum + meta.shares[id], 0) / metas.length);
    return { shares, presence: null };
  }

  #option(name, text) {
    const option = element("button", "pick");
    option.type = "button";
    option.title = name; // the text may be too long for its place
    option.append(element("span", "name", text));
    option.dataset.name = name;
    option.addEventListener("click", () => pick(name));
    if (name) {
      const dot = element("span", "dot");
      option.prepend(dot);
      this.#entries.get(name).dot = dot;
    }
    return option;
  }

  #tile(name) {
    const tile = element("button", "tile");
    tile.type = "button";
    tile.setAttribute("aria-label", `Show ${name} large`);
    tile.dataset.stale = "true";
    const canvas = element("canvas");
    const line = element("span", "tile-line");
    const caption = element("small");
    line.append(element("span", "dot"), element("b", "", name), caption);
    const notice = element("span", "tile-notice");
    tile.append(canvas, notice, line);
    tile.addEventListener("click", () => pick(name));
    this.#grid.append(tile);
    return { tile, caption, notice, view: new View(canvas), dot: null };
  }

  #mark() {
    for (const option of this.#picker.children) {
      const pressed = option.dataset.name === (this.chosen ?? "");
      option.setAttribute("aria-pressed", String(pressed));
      if (pressed) this.#picker.scrollTo({ left: option.offsetLeft - (this.#picker.clientWidth - option.offsetWidth) / 2 });
    }
  }
}

/** A view that passes every change of the look on to the tiles. */
export class Views {
  #large;
  #sources;
  #shown = false;

  constructor(large, sources) {
    this.#large = large;
    this.#sources = sources;
  }

  get picture() {
    return this.#shown ? this.#large.picture : null;
  }

  /** The next picture is one of another source. */
  forget() {
    this.#shown = false;
  }

  set classes(classes) {
    for (const view of this.#all) view.classes = classes;
  }

  look(change) {
    for (const view of this.#all) view.look(change);
  }

  refresh() {
    for (const view of this.#all) view.refresh();
  }

  show(picture) {
    this.#shown = true;
    this.#large.show(picture);
  }

  classAt(x, y) {
    return this.#shown ? this.#large.classAt(x, y) : -1;
  }

  get #all() {
    return [this.#large, ...this.#sources.views];
  }
}

/** The statistics of one source, or of all together: sums, and the times of the slowest. */
export function focused(stats, name) {
  const shown = stats.sources.filter((source) => name === null || source.name === name);
  const sum = (value) => shown.reduce((total, source) => total + value(source), 0);
  const worst = (key) => {
    const of = (quantile) => Math.max(...shown.map((source) => source[key][quantile]));
    return { p50: of("p50"), p99: of("p99") };
  };
  const fates = Object.keys(shown[0].frames);
  return {
    ...stats,
    fps: sum(({ fps }) => fps),
    frames: Object.fromEntries(fates.map((fate) => [fate, sum(({ frames }) => frames[fate])])),
    latency: worst("latency"),
    encode: worst("encode"),
  };
}

/** The state of all sources together. */
export function stateOfAll(sources) {
  const well = sources.filter(({ status }) => status.well).length;
  const tone = well === sources.length ? "good" : well ? "warn" : "bad";
  return { text: well === sources.length ? `${well} sources` : `${well} of ${sources.length} sources`, tone, title: "", reason: "", stale: false };
}

function pick(name) {
  location.hash = encodeURIComponent(name);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

function element(kind, name = "", text = "") {
  const made = document.createElement(kind);
  made.className = name;
  made.textContent = text;
  return made;
}
