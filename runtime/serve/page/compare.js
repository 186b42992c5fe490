// Two nets on one picture: a divider between their masks, and the pixels where they differ.

const DIFFERS = 255; // id of pixels to which the nets give two classes, while these are marked
const MARK = [255, 20, 147];
const STEP = 0.02; // of the width, by an arrow key
const byId = (id) => document.getElementById(id);

export class Compare {
  #stage;
  #view;
  #picture = null;
  #at = 0.5; // of the picture's width
  #marks = false;
  #off = false;

  constructor(stage, view) {
    this.#stage = stage;
    this.#view = view;
    const divider = byId("divider");
    divider.addEventListener("pointerdown", (event) => divider.setPointerCapture(event.pointerId));
    divider.addEventListener("pointermove", (event) => {
      if (divider.hasPointerCapture(event.pointerId)) this.#moveTo(this.#share(event.clientX));
    });
    divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
      if (step) this.#moveTo(this.#at + step);
    });
    byId("differences").addEventListener("click", () => {
      this.#marks = !this.#marks;
      byId("differences").setAttribute("aria-pressed", String(this.#marks));
      this.#compose();
    });
    new ResizeObserver(() => this.#place()).observe(stage);
  }

  /** The classes for the view: those of the nets, and the mark. */
  static classes(classes) {
    const marked = [...classes];
    marked[DIFFERS] = { colour: MARK, shown: true };
    return marked;
  }

  /** A picture whose ids are those of one net on the left and of the other on the right. */
  composed(picture) {
    this.#picture = null;
    if (picture.meta.compared) {
      const half = picture.ids.length / 2;
      const nets = [picture.ids.subarray(0, half), picture.ids.subarray(half)];
      this.#picture = { ...picture, nets, ids: new Uint8Array(half) };
      this.#compose();
    }
    this.#place();
    return this.#picture ?? picture;
  }

  /** Show agreement and times; nothing if the server has one net. */
  update(stats, chosen) {
    const { compare } = stats;
    byId("compare").hidden = !compare;
    if (!compare) return;
    const shares = Object.entries(compare.agreement).filter(([name, share]) => share !== null && (chosen === null || name === chosen));
    const mean = shares.reduce((sum, [, share]) => sum + share, 0) / shares.length;
    byId("agreement").textContent = shares.length ? `${(100 * mean).toFixed(mean > 0.99 ? 2 : 1)} %` : "–";
    const times = [stats.stages.infer, compare.stages.infer];
    byId("nets").replaceChildren(...compare.bundles.map((bundle, index) => row(bundle, times[index])));
    ["net-left", "net-right"].forEach((id, index) => (byId(id).textContent = named(compare.bundles[index])));
  }

  /** Whether the picture is not shown. */
  set hidden(off) {
    this.#off = off;
    this.#place();
  }

  #compose() {
    if (!this.#picture) return;
    const { nets: [left, right], ids, meta } = this.#picture;
    const [height, width] = meta.size;
    const border = Math.round(this.#at * width);
    for (let y = 0; y < height; y++) {
      const start = y * width;
      ids.set(left.subarray(start, start + border), start);
      ids.set(right.subarray(start + border, start + width), start + border);
    }
    if (this.#marks) {
      for (let i = 0; i < ids.length; i++) if (left[i] !== right[i]) ids[i] = DIFFERS;
    }
    this.#view.refresh();
  }

  #moveTo(at) {
    this.#at = Math.min(1, Math.max(0, at));
    this.#compose();
    this.#place();
  }

  /** Put the divider where the masks meet: the picture may be narrower than the stage. */
  #place() {
    const shown = Boolean(this.#picture) && !this.#off;
    for (const id of ["divider", "net-left", "net-right"]) byId(id).hidden = !shown;
    byId("differences").hidden = !shown;
    if (!shown) return;
    const { left, width } = this.#box();
    byId("divider").style.setProperty("--at", `${left + this.#at * width}px`);
    byId("divider").setAttribute("aria-valuenow", String(Math.round(100 * this.#at)));
  }

  #share(clientX) {
    const { left, width } = this.#box();
    return (clientX - this.#stage.getBoundingClientRect().left - left) / width;
  }

  /** The picture within the stage (object-fit: contain). */
  #box() {
    const [height, width] = this.#picture.meta.size;
    const stage = this.#stage.getBoundingClientRect();
    const scale = Math.min(stage.width / width, stage.height / height);
    return { left: (stage.width - width * scale) / 2, width: width * scale };
  }
}

const named = ({ name, precision }) => `${name} · ${precision.toUpperCase()}`;

function row(bundle, time) {
  const made = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = named(bundle);
  const cells = [time?.p50, time?.p99].map((value) => {
    const cell = document.createElement("td");
    cell.textContent = value === undefined ? "–" : value.toFixed(value < 9.995 ? 2 : 1);
    return cell;
  });
  made.append(head, ...cells);
  return made;
}
