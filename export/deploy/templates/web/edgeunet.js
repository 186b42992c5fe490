// Segments images in the browser:
//
//     import { Segmenter } from "./edgeunet.js";
//     const net = await Segmenter.load("model/");
//     const result = await net.segment(picture); // a File, an image, a video, a canvas …
//     result.mask; // Uint8Array (height * width): class ids, rows from the top
//
// Nothing is sent anywhere: it runs in a worker, by onnxruntime-web (`ort/`).

import { encodeMask } from "./png.js";

const RUNTIME = new URL("ort/", import.meta.url).href;
const WORKER = new URL("worker.js", import.meta.url).href;
// A function with one SIMD instruction.
const SIMD = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]);
const NUMBERS = 2 ** 26; // of logits at a frame's size, 256 MB: phones end pages that take much more
const SAME = 0.9; // of the pixels of a drawn frame: a GPU that gives fewer computes wrongly

/** What a user can do something about. */
export class SegmenterError extends Error {}

/** One net: its graphs, one of which is open. */
export class Segmenter {
  #folder;
  #remote = null;
  #last = Promise.resolve(); // what is being done: graphs change between pictures

  /** about: `net.json` of the folder. choices: graphs and devices that this browser has. gpu: whether it has WebGPU. */
  constructor(folder, about, { choices, gpu }) {
    this.#folder = folder;
    this.about = about;
    this.choices = choices;
    this.gpu = gpu;
    this.current = null;
    this.threads = 1;
  }

  /**
   * Open a folder `model/` that `edgeunet deploy --to web` wrote.
   *
   * use: name of a choice, such as "fp32 wasm"; without it, or if the browser lacks it, all graphs
   * are timed and the fastest is taken. report: called with what is being done, a text.
   */
  static async load(folder = "model/", { use = null, report = () => {} } = {}) {
    if (!globalThis.WebAssembly?.validate(SIMD)) {
      throw new SegmenterError("expected WebAssembly with SIMD, and this browser has none. Use Chrome 94, Firefox 114, Safari 16.4 or newer.");
    }
    const base = new URL(folder, document.baseURI).href;
    const response = await fetch(`${base}net.json`).catch(() => null);
    if (!response?.ok) {
      throw new SegmenterError(`${base}net.json: expected the net, got ${response ? `HTTP ${response.status}` : "no answer"}. Copy the whole folder that edgeunet deploy wrote.`);
    }
    const about = await response.json();
    const net = new Segmenter(base, about, await choicesFor(about.graphs));
    if (net.choices.length === 0) {
      const held = about.graphs.map(({ flavour }) => flavour).join(", ");
      throw new SegmenterError(`this folder holds ${held} alone, which needs WebGPU with 16-bit floats, and this browser has none. Deploy fp32 too, or open another browser.`);
    }
    if (net.choices.some(({ name }) => name === use)) await net.choose(use, report);
    else await net.measure(report);
    return net;
  }

  /** Names and colours (RGB) by class id. */
  get classes() {
    return this.about.classes;
  }

  /** Time each graph on a drawn frame, and open the fastest one. `choices` then hold what came out. */
  measure(report = () => {}) {
    return this.#next(() => this.#measure(report));
  }

  async #measure(report) {
    const [height, width] = this.about.size;
    let reference = null;
    this.close();
    for (const choice of this.choices) {
      report(`Timing ${choice.title}`);
      const remote = new Remote();
      try {
        const { threads } = await this.#open(remote, choice);
        const { milliseconds, mask } = await remote.call("time", { width, height });
        reference ??= mask;
        const same = agreement(mask, reference);
        const wrong = choice.device !== "wasm" && same < SAME;
        const problem = wrong ? `${(100 * same).toFixed(0)} % of its pixels are those of ${this.choices[0].title}` : "";
        Object.assign(choice, { milliseconds, problem });
        if (wrong || milliseconds >= (this.current?.milliseconds ?? Infinity)) remote.close();
        else this.#take(remote, choice, threads);
      } catch (error) {
        remote.close();
        Object.assign(choice, { milliseconds: null, problem: error.message });
      }
    }
    if (this.current === null) throw new SegmenterError(`no graph runs in this browser. ${this.choices[0].title}: ${this.choices[0].problem}`);
  }

  /** Open one of the `choices`, by its name. */
  choose(name, report = () => {}) {
    return this.#next(() => this.#choose(name, report));
  }

  async #choose(name, report) {
    const choice = this.choices.find((each) => each.name === name);
    if (!choice) throw new SegmenterError(`expected one of ${this.choices.map((each) => each.name).join(", ")}; got ${name}.`);
    report(`Loading ${choice.title}`);
    const remote = new Remote();
    try {
      const { threads } = await this.#open(remote, choice);
      this.#take(remote, choice, threads);
    } catch (error) {
      remote.close();
      throw new SegmenterError(`${choice.title} does not run in this browser: ${error.message}`);
    }
  }

  /**
   * Segment a picture: a File or Blob, an image, a video's frame, a canvas, an ImageBitmap.
   *
   * Returns mask (Uint8Array, class ids), width, height, shares (of each class), presence (of gated
   * nets, by class id), frame (an ImageBitmap of the picture; close it), full ([height, width] of
   * the picture, which may be more than the mask's), and the milliseconds `net` and `total`.
   */
  segment(picture) {
    return this.#next(() => this.#segment(picture));
  }

  async #segment(picture) {
    if (!this.#remote) throw new SegmenterError("this net is closed. Load it again.");
    const started = performance.now();
    const frame = await bitmapOf(picture);
    const full = [frame.height, frame.width];
    const scale = Math.min(1, Math.sqrt(this.#mostPixels / (frame.width * frame.height)));
    const width = Math.max(1, Math.floor(frame.width * scale));
    const height = Math.max(1, Math.floor(frame.height * scale));
    const values = { frame, width, height, classes: this.classes.length };
    const result = await this.#remote.call("segment", values, [frame]);
    return new Result({ ...result, full, total: performance.now() - started }, this.classes);
  }

  /** End the worker. */
  close() {
    this.#remote?.close();
    this.#remote = null;
    this.current = null;
  }

  #next(action) {
    const done = this.#last.then(action);
    this.#last = done.catch(() => {});
    return done;
  }

  get #mostPixels() {
    return Math.floor(NUMBERS / (this.classes.length + 3));
  }

  #open(remote, { graph, device }) {
    const [height, width] = this.about.size;
    return remote.call("open", { runtime: RUNTIME, graph: this.#folder + graph.file, device, width, height });
  }

  #take(remote, choice, threads) {
    this.#remote?.close();
    this.#remote = remote;
    this.current = choice;
    this.threads = threads;
  }
}

/** A segmented picture, see `Segmenter.segment`. */
class Result {
  #classes;

  constructor(values, classes) {
    this.#classes = classes;
    Object.assign(this, values);
  }

  /** The mask as a PNG (Blob): the index of a pixel is its class id, its colour the class's. */
  toPng() {
    return encodeMask(this.mask, this.width, this.height, this.#classes.map(({ colour }) => colour));
  }
}

/** A worker, asked by name and answered by a promise. */
class Remote {
  #worker;
  #waiting = new Map();
  #count = 0;

  constructor() {
    // A worker that is a blob keeps the Content-Security-Policy of the page; one that is a file has none.
    const code = new Blob([`import ${JSON.stringify(WORKER)};`], { type: "text/javascript" });
    const url = URL.createObjectURL(code);
    this.#worker = new Worker(url, { type: "module" });
    this.#worker.onmessage = ({ data: { id, value, error } }) => {
      URL.revokeObjectURL(url);
      const { resolve, reject } = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) resolve(value);
      else reject(new SegmenterError(error));
    };
    this.#worker.onerror = (event) => this.#fail(event.message || `${WORKER} could not be loaded. Copy the whole folder.`);
  }

  call(action, values, transfer = []) {
    return new Promise((resolve, reject) => {
      const id = this.#count++;
      this.#waiting.set(id, { resolve, reject });
      this.#worker.postMessage({ id, action, values }, transfer);
    });
  }

  close() {
    this.#worker.terminate();
    this.#fail("the net was closed");
  }

  #fail(reason) {
    for (const { reject } of this.#waiting.values()) reject(new SegmenterError(reason));
    this.#waiting.clear();
  }
}

/** Graphs with the devices that can run them here. FP16 needs a GPU; a GPU has nothing for bytes. */
async function choicesFor(graphs) {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  const gpu = Boolean(adapter) && !adapter.info?.isFallbackAdapter; // that one is the CPU, far slower
  const devices = {
    fp32: gpu ? ["wasm", "webgpu"] : ["wasm"],
    "int8.cpu": ["wasm"],
    fp16: gpu && adapter.features.has("shader-f16") ? ["webgpu"] : [],
  };
  const words = { wasm: "WebAssembly", webgpu: "WebGPU" };
  const choices = graphs.flatMap((graph) =>
    devices[graph.flavour].map((device) => ({
      name: `${graph.flavour} ${device}`,
      title: `${graph.flavour.split(".")[0].toUpperCase()} on ${words[device]}`,
      graph,
      device,
      milliseconds: null,
      problem: "",
    })),
  );
  return { choices, gpu };
}

async function bitmapOf(picture) {
  try {
    // The numbers of the file, as edgeunet reads them: without colour profiles.
    return await createImageBitmap(picture, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch (error) {
    const what = picture instanceof Blob ? `${picture.size} bytes of type ${picture.type || "unknown"}` : String(picture);
    throw new SegmenterError(`expected an image or a film that this browser reads (JPEG, PNG, WebP; MP4, WebM), got ${what}. Save it as PNG or WebM.`, { cause: error });
  }
}

function agreement(one, other) {
  let same = 0;
  for (let i = 0; i < one.length; i++) same += one[i] === other[i];
  return same / one.length;
}
