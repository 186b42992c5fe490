// The canvas: draws the classes over a frame, in the browser, as each viewer chose.

const FAINT = 40; // alpha of the other classes, of 255, while the viewer points at one

export class View {
  #canvas;
  #context;
  #overlay = document.createElement("canvas");
  #picture = null;
  #classes = [];
  #scheduled = false;
  #look = { opacity: 0.55, style: "fill", spotlight: -1 };

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
  }

  get picture() {
    return this.#picture;
  }

  /** Classes as {colour: [r, g, b], shown}. Call `refresh` after changing `shown`. */
  set classes(classes) {
    this.#classes = classes;
    this.refresh();
  }

  /** Change opacity (0 to 1), style ("fill" or "outline") or spotlight (a class, -1 for none). */
  look(change) {
    Object.assign(this.#look, change);
    this.refresh();
  }

  show(picture) {
    this.#picture?.frame.close();
    this.#picture = picture;
    this.refresh();
  }

  refresh() {
    if (this.#scheduled) return;
    this.#scheduled = true;
    requestAnimationFrame(() => {
      this.#scheduled = false;
      if (this.#picture) this.#paint();
    });
  }

  /** The class at a position on the page, -1 for none. */
  classAt(clientX, clientY) {
    if (!this.#picture) return -1;
    const box = this.#canvas.getBoundingClientRect();
    const [height, width] = this.#picture.meta.size;
    const scale = Math.min(box.width / width, box.height / height); // object-fit: contain
    const x = Math.floor((clientX - box.left - (box.width - width * scale) / 2) / scale);
    const y = Math.floor((clientY - box.top - (box.height - height * scale) / 2) / scale);
    if (x < 0 || y < 0 || x >= width || y >= height) return -1;
    return this.#picture.ids[y * width + x];
  }

  #paint() {
    const { meta, frame, ids } = this.#picture;
    const [height, width] = meta.size;
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = this.#overlay.width = width;
      this.#canvas.height = this.#overlay.height = height;
    }
    const overlay = this.#overlay.getContext("2d");
    const pixels = overlay.createImageData(width, height);
    const out = new Uint32Array(pixels.data.buffer);
    const colours = this.#colours();
    if (this.#look.style === "fill") fill(out, ids, colours);
    else outline(out, ids, colours, width, height);
    overlay.putImageData(pixels, 0, 0);
    this.#context.globalAlpha = 1;
    this.#context.drawImage(frame, 0, 0, width, height);
    this.#context.globalAlpha = this.#look.opacity;
    this.#context.drawImage(this.#overlay, 0, 0);
  }

  /** RGBA of each class, in memory order. */
  #colours() {
    const colours = new Uint32Array(256);
    const bytes = new Uint8Array(colours.buffer);
    this.#classes.forEach(({ colour, shown }, id) => {
      const spot = this.#look.spotlight;
      const alpha = spot === id ? 255 : !shown ? 0 : spot < 0 ? 255 : FAINT;
      bytes.set([...colour, alpha], 4 * id);
    });
    return colours;
  }
}

function fill(out, ids, colours) {
  for (let i = 0; i < out.length; i++) out[i] = colours[ids[i]];
}

/** Colours the pixels on both sides of each border between classes. */
function outline(out, ids, colours, width, height) {
  const reach = Math.max(1, Math.round(width / 640));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      const id = ids[i];
      if (
        (x + reach < width && ids[i + reach] !== id) ||
        (x >= reach && ids[i - reach] !== id) ||
        (y + reach < height && ids[i + reach * width] !== id) ||
        (y >= reach && ids[i - reach * width] !== id)
      ) {
        out[i] = colours[id];
      }
    }
  }
}
