// Runs one graph of the net, one call at a time, beside the page's own thread. `edgeunet.js` starts it.

let ort = null;
let session = null;
const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });

/** Load onnxruntime-web for a device ("wasm" or "webgpu"), and a graph. Returns the threads. */
async function open({ runtime, graph, device, width, height }) {
  ort = await import(`${runtime}ort.${device}.min.mjs`);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = runtime;
  // Threads share memory, which browsers allow only in pages that are isolated from others.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? threadsOf(navigator.hardwareConcurrency) : 1;
  const response = await fetch(graph);
  if (!response.ok) throw new Error(`${graph}: expected the graph, got HTTP ${response.status}. Copy the whole folder.`);
  const options = { executionProviders: [device], logSeverityLevel: 3 };
  session = await ort.InferenceSession.create(new Uint8Array(await response.arrayBuffer()), options);
  await run(drawn(width, height), width, height); // the first run prepares memory and shaders
  return { value: { threads: ort.env.wasm.numThreads } };
}

/** Half of what the processor runs at once, which is often the number of its cores. */
function threadsOf(processors) {
  return Math.min(processors, Math.max(2, Math.min(8, Math.ceil(processors / 2))));
}

/** The class ids of a frame (ImageBitmap) at a size. The frame goes back with them. */
async function segment({ frame, width, height, classes }) {
  const started = performance.now();
  const rgb = pixelsOf(frame, width, height);
  const before = performance.now();
  const { masks, presence } = await run(rgb, width, height);
  const net = performance.now() - before;
  const mask = masks.data;
  const counts = new Uint32Array(classes);
  for (let i = 0; i < mask.length; i++) counts[mask[i]]++;
  const value = {
    mask,
    width,
    height,
    frame,
    presence: presence ? Array.from(presence.data) : undefined,
    shares: Array.from(counts, (count) => count / mask.length),
    net,
    worker: performance.now() - started,
  };
  return { value, transfer: [mask.buffer, frame] };
}

/** Milliseconds of the graph on a drawn frame, the median of up to five runs, and its class ids. */
async function time({ width, height }) {
  const rgb = drawn(width, height);
  const times = [];
  const until = performance.now() + 2000;
  let mask = null;
  do {
    const started = performance.now();
    mask = (await run(rgb, width, height)).masks.data;
    times.push(performance.now() - started);
  } while (times.length < 5 && performance.now() < until);
  times.sort((a, b) => a - b);
  return { value: { milliseconds: times[times.length >> 1], mask } };
}

async function run(rgb, width, height) {
  return session.run({ frames: new ort.Tensor("uint8", rgb, [1, height, width, 3]) });
}

function pixelsOf(frame, width, height) {
  const { canvas } = context;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
    context.imageSmoothingQuality = "high";
  }
  context.clearRect(0, 0, width, height);
  context.drawImage(frame, 0, 0, width, height);
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = new Uint8Array(3 * width * height);
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
  return rgb;
}

/** Soft spots of several colours: the same in every browser. */
function drawn(width, height) {
  const rgb = new Uint8Array(3 * width * height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i += 3) {
      const wave = Math.sin((9 * x) / width) * Math.sin((7 * y) / height);
      rgb[i] = 128 + 127 * wave;
      rgb[i + 1] = 128 - 100 * wave;
      rgb[i + 2] = (255 * y) / height;
    }
  }
  return rgb;
}

const ACTIONS = { open, segment, time };
let last = Promise.resolve(); // a session takes one run at a time

self.onmessage = ({ data: { id, action, values } }) => {
  last = last.then(async () => {
    try {
      const { value, transfer } = await ACTIONS[action](values);
      self.postMessage({ id, value }, transfer ?? []);
    } catch (error) {
      self.postMessage({ id, error: error instanceof Error ? error.message : String(error) });
    }
  });
};
