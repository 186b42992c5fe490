// The cards with numbers, beside the picture.

const STAGES = { decode: "Decode", preprocess: "Preprocess", infer: "Net", postprocess: "Postprocess", encode: "Encode" };
const HISTORY = 60; // seconds shown by the small curve
const WARM = 80;
const HOT = 95; // degrees Celsius
const byId = (id) => document.getElementById(id);
const history = [];

export function showNumbers(stats) {
  byId("fps").textContent = stats.fps.toFixed(stats.fps < 9.95 ? 1 : 0);
  byId("uptime").textContent = `up ${duration(stats.uptime)}`;
  curve(stats.fps);
  stages(stats);
  frames(stats);
  board(stats.board);
}

/** Forget the curve, when the numbers become those of another source. */
export function resetCurve() {
  history.length = 0;
}

function curve(fps) {
  history.push(fps);
  if (history.length > HISTORY) history.shift();
  if (history.length < 5) return; // too few for a curve
  const top = Math.max(1, ...history) * 1.15;
  const points = history.map((value, index) => {
    const x = 120 - (history.length - 1 - index) * (120 / (HISTORY - 1));
    return `${x.toFixed(1)},${(36 - (36 * value) / top).toFixed(1)}`;
  });
  const first = points[0].split(",")[0];
  document.querySelector(".spark-line").setAttribute("d", `M${points.join("L")}`);
  document.querySelector(".spark-area").setAttribute("d", `M${first},36L${points.join("L")}L120,36Z`);
}

function stages(stats) {
  const measured = { ...stats.stages, encode: { ...stats.encode, busy: null } };
  // Decoding a live source is mostly waiting for its next frame, which is no bottleneck.
  if (measured.decode) measured.decode.busy = null;
  byId("waits").textContent = " Decode includes the wait for the next frame.";
  const rows = Object.entries(measured).map(([name, stage]) => {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = STAGES[name] ?? name;
    row.append(head, cell(milliseconds(stage.p50)), cell(milliseconds(stage.p99)), busyCell(stage.busy));
    return row;
  });
  byId("stages").replaceChildren(...rows);
}

function cell(content) {
  const made = document.createElement("td");
  made.append(content);
  return made;
}

function busyCell(share) {
  if (share === null) return cell("");
  const line = document.createElement("div");
  line.className = "busy";
  const meter = document.createElement("div");
  meter.className = "meter";
  meter.append(document.createElement("b"));
  meter.style.setProperty("--value", Math.min(1, share));
  const text = document.createElement("span");
  text.textContent = `${Math.round(100 * share)} %`;
  line.append(meter, text);
  return cell(line);
}

function frames({ frames: counts, depths, viewers, latency }) {
  const lost = counts.read ? ` (${((100 * counts.dropped) / counts.read).toFixed(1)} %)` : "";
  facts(byId("frames"), [
    ["Read", number(counts.read)],
    ["Segmented", number(counts.segmented)],
    ...Object.entries(depths).reverse().map(([depth, count]) => [`at depth ${depth}`, number(count), null]),
    ["Dropped for newer", number(counts.dropped) + (counts.dropped ? lost : "")],
    ["Damaged, skipped", number(counts.skipped), counts.skipped ? "warn" : null],
    ["Reconnects", number(counts.reconnects), counts.reconnects ? "warn" : null],
    ["Latency p50, p99", counts.segmented ? `${milliseconds(latency.p50)}, ${milliseconds(latency.p99)} ms` : "–"],
    ["Watching now", number(viewers)],
  ]);
}

function board({ temperatures, power }) {
  const heat = Object.entries(temperatures).map(([name, value]) => [
    name, `${value.toFixed(1)} °C`, value >= HOT ? "bad" : value >= WARM ? "warn" : null,
  ]);
  const rails = Object.entries(power).map(([name, value]) => [name, `${value.toFixed(2)} W`, null]);
  byId("board").hidden = heat.length + rails.length === 0;
  facts(byId("board-facts"), [...heat, ...rails]);
}

function facts(list, entries) {
  list.replaceChildren(
    ...entries.flatMap(([name, value, tone]) => {
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      if (tone) text.dataset.tone = tone;
      return [term, text];
    }),
  );
}

const milliseconds = (value) => value.toFixed(value < 9.995 ? 2 : 1);
const number = (value) => value.toLocaleString("en");

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}
