// How the classes are drawn: opacity, style, which ones are shown, and the class under the pointer.
// The choice is kept in this browser.

import { Legend } from "./legend.js";

const byId = (id) => document.getElementById(id);

export class Look {
  classes = [];
  #view;
  #key = "";
  #legend = null;

  constructor(view) {
    this.#view = view;
    byId("opacity").addEventListener("input", () => this.#setOpacity());
    byId("opacity").addEventListener("change", () => this.#changed());
    byId("all").addEventListener("click", () => this.#showAll(true));
    byId("none").addEventListener("click", () => this.#showAll(false));
    for (const radio of document.querySelectorAll("[name=style]")) {
      radio.addEventListener("change", () => view.look({ style: radio.value }));
    }
    byId("stage").addEventListener("pointermove", (event) => this.#point(event));
    byId("stage").addEventListener("pointerleave", () => (byId("tag").hidden = true));
  }

  /** classes: as {name, colour, threshold}. key: the name under which the look is kept. */
  start(classes, key) {
    this.#key = key;
    // A black class is the background. Drawing it would only darken the picture.
    this.classes = classes.map((item) => ({ ...item, shown: item.colour.some((value) => value > 0) }));
    this.#restore();
    this.#legend = new Legend(byId("legend"), this.classes, {
      change: () => this.#changed(),
      point: (id) => this.#view.look({ spotlight: id }),
    });
    this.#legend.refresh();
    this.#view.classes = this.classes;
    const gated = classes.some(({ threshold }) => threshold !== null);
    byId("legend-note").textContent = gated ? "Bar: presence by the gate. Below the mark, the class is closed." : "";
  }

  /** Show the numbers of a picture in the legend, soon or now. */
  update(meta, now) {
    this.#legend?.update(meta, now);
  }

  /** Describe the canvas for screen readers. shares: of the pixels, by class. */
  describe(shares) {
    const largest = this.classes.map(({ name }, id) => [name, shares[id]]).sort((a, b) => b[1] - a[1]).slice(0, 4);
    const words = largest.filter(([, share]) => share > 0).map(([name, share]) => `${name} ${Math.round(100 * share)} %`);
    byId("canvas").setAttribute("aria-label", `Segmented picture: ${words.join(", ")}`);
  }

  #changed() {
    this.#view.refresh();
    const hidden = this.classes.filter(({ shown }) => !shown).map(({ name }) => name);
    store(this.#key, { opacity: byId("opacity").value, hidden });
  }

  #restore() {
    const look = stored(this.#key);
    if (!look) return;
    for (const item of this.classes) item.shown = !look.hidden.includes(item.name);
    byId("opacity").value = look.opacity;
    this.#setOpacity();
  }

  #setOpacity() {
    const percent = Number(byId("opacity").value);
    byId("opacity-value").textContent = `${percent} %`;
    this.#view.look({ opacity: percent / 100 });
  }

  #showAll(shown) {
    for (const item of this.classes) item.shown = shown;
    this.#legend?.refresh();
    this.#changed();
  }

  #point(event) {
    const item = this.classes[this.#view.classAt(event.clientX, event.clientY)];
    const tag = byId("tag");
    tag.hidden = !item;
    if (!item) return;
    const swatch = document.createElement("i");
    swatch.style.setProperty("--class", `rgb(${item.colour.join(" ")})`);
    tag.replaceChildren(swatch, item.name);
    const box = byId("stage").getBoundingClientRect();
    const x = Math.min(event.clientX - box.left + 14, box.width - tag.offsetWidth - 4);
    const y = Math.min(event.clientY - box.top + 16, box.height - tag.offsetHeight - 4);
    tag.style.transform = `translate(${x}px, ${y}px)`;
  }
}

export function store(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch { /* storage is switched off */ }
}

/** What `store` kept, null if there is nothing. */
export function stored(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

/** Call `take` with files that are dropped on the page or pasted. */
export function takeFiles(take) {
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
    if (event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take(event.clipboardData.files[0]);
  });
  byId("file").addEventListener("change", (event) => {
    if (event.target.files.length) take(event.target.files[0]);
    event.target.value = "";
  });
}

/** Save what the canvas shows. */
export const saveCanvas = (canvas, name) => canvas.toBlob((blob) => save(blob, name));

/** Save a PNG under a name with the time. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${name}-${new Date().toISOString().replace(/[:.]/g, "-")}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
