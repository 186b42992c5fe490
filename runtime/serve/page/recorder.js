// The button that records what the server segments, into films on the server.

const FEW = 3; // recordings that are told of one by one
const byId = (id) => document.getElementById(id);

export class Recorder {
  #query;
  #changed;
  #active = false;

  /** query: names the sources that are shown. changed: called after a start or a stop. */
  constructor(query, changed) {
    this.#query = query;
    this.#changed = changed;
    byId("record-toggle").addEventListener("click", () => this.#toggle());
  }

  /** Show the recordings of the source that is shown, or of all; null if there can be none. */
  update(recordings, chosen) {
    byId("record").hidden = !recordings;
    if (!recordings) return;
    const shown = Object.entries(recordings).filter(([name]) => chosen === null || name === chosen);
    const active = shown.filter(([, each]) => each.active);
    this.#active = active.length > 0;
    const longest = Math.max(0, ...active.map(([, { seconds }]) => seconds));
    byId("record-text").textContent = this.#active ? `Stop ${clock(longest)}` : "Record";
    byId("record-toggle").setAttribute("aria-pressed", String(this.#active));
    byId("record-kind").disabled = this.#active;
    this.#tell(shown.length > FEW ? summary(shown) : told(shown), shown.some(([, { error }]) => error));
  }

  async #toggle() {
    const action = this.#active ? "stop" : "start";
    const query = `${this.#query()}&action=${action}&kind=${byId("record-kind").value}`;
    byId("record-toggle").disabled = true;
    try {
      const response = await fetch(`record?${query}`, { method: "POST" });
      if (!response.ok) this.#tell((await response.json()).error, true);
      else this.#changed();
    } catch {
      this.#tell("The server does not answer.", true);
    } finally {
      byId("record-toggle").disabled = false;
    }
  }

  #tell(text, bad) {
    const place = byId("record-note");
    place.hidden = !text;
    if (place.textContent !== text) place.textContent = text;
    place.dataset.tone = bad ? "bad" : "";
  }
}

const told = (shown) => shown.map(([name, each]) => `${name}: ${note(each)}`).join(" ");

/** Many recordings in one sentence; only what went wrong is told of each. */
function summary(shown) {
  const sum = (value) => shown.reduce((total, [, each]) => total + value(each), 0);
  const counts = [
    [sum(({ active }) => active), "being recorded"],
    [sum(({ active, finishing }) => !active && finishing), "being finished"],
    [sum(({ active, finishing, files }) => !active && !finishing && files > 0), "saved"],
    [sum(({ active, finishing, files }) => !active && !finishing && !files), "without a film"],
  ];
  const parts = counts.filter(([count]) => count).map(([count, text]) => `${count} ${text}`);
  const dropped = sum((each) => each.dropped);
  const lost = dropped ? `, ${dropped} dropped: the encoder is too slow` : "";
  const wrong = told(shown.filter(([, { error }]) => error));
  return `Sources: ${parts.join(", ")}; ${sum(({ files }) => files)} films, ${sum(({ frames }) => frames)} frames${lost}. ${wrong}`.trim();
}

function note({ active, finishing, kind, frames, dropped, files, file, error }) {
  const lost = dropped ? `, ${dropped} dropped: the encoder is too slow` : "";
  const counted = `${frames} frames${lost}.`;
  if (error) return `${error}${file ? ` Saved ${file}.` : ""}`;
  if (active) return `recording the ${kind}, ${counted}`;
  if (finishing) return "finishing the film.";
  return file ? `saved ${file}${files > 1 ? ` and ${files - 1} before it` : ""}, ${counted}` : "no frame came to record.";
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  const hours = Math.floor(whole / 3600);
  const two = (value) => String(value).padStart(2, "0");
  const rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}
