// The list of classes. Each has a switch, its share of the picture, and its presence by the gate.

const EVERY = 250; // milliseconds between updates: faster numbers cannot be read

export class Legend {
  #list;
  #rows = [];
  #classes;
  #last = 0;

  /** classes: as for `View`, with `name` and `threshold`. point: called with a class, or -1. */
  constructor(list, classes, { change, point }) {
    this.#list = list;
    this.#classes = classes;
    list.replaceChildren(...classes.map((item, id) => this.#row(item, id, change, point)));
  }

  #row(item, id, change, point) {
    const button = element("button", "class");
    button.type = "button";
    button.setAttribute("role", "switch");
    button.setAttribute("aria-label", item.name); // without the numbers, which change constantly
    button.style.setProperty("--class", `rgb(${item.colour.join(" ")})`);
    const name = element("span", "name");
    const closed = element("small");
    name.append(item.name, closed);
    const meter = element("span", "meter");
    meter.append(element("b"));
    if (item.threshold !== null) {
      const mark = element("i");
      mark.style.setProperty("--threshold", item.threshold);
      meter.append(mark);
    }
    const share = element("span", "share");
    button.append(element("span", "switch"), name, share, meter);
    button.addEventListener("click", () => {
      item.shown = !item.shown;
      this.refresh();
      change();
    });
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && point(id));
    button.addEventListener("pointerleave", () => point(-1));
    button.addEventListener("focus", () => button.matches(":focus-visible") && point(id));
    button.addEventListener("blur", () => point(-1));
    this.#rows.push({ button, share, meter, closed });
    const line = element("li");
    line.append(button);
    return line;
  }

  /** Show which switches are on. */
  refresh() {
    this.#rows.forEach(({ button }, id) =>
      button.setAttribute("aria-checked", String(this.#classes[id].shown)),
    );
  }

  /** Show the numbers of a picture, at most every `EVERY` ms unless `now`. */
  update(meta, now = false) {
    if (!now && performance.now() - this.#last < EVERY) return;
    this.#last = performance.now();
    this.#rows.forEach(({ button, share, meter, closed }, id) => {
      const { threshold } = this.#classes[id];
      const presence = meta.presence?.[id];
      const gated = presence !== undefined && threshold !== null;
      const shut = gated && presence < threshold;
      share.textContent = `${(100 * meta.shares[id]).toFixed(1)} %`;
      meter.style.setProperty("--value", gated ? presence : meta.shares[id]);
      button.dataset.closed = String(shut);
      closed.textContent = shut ? "closed" : "";
      if (gated) button.title = `presence ${presence.toFixed(3)}, threshold ${threshold.toFixed(3)}`;
    });
  }
}

function element(kind, name = "") {
  const made = document.createElement(kind);
  made.className = name;
  return made;
}
