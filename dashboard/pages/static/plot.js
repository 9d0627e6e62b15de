// The plot: series decimated by the server to twice the plot's width, so that what is drawn is what all readings would
// draw; flags and alarms as bands; flagging by dragging.

import { ask, askJson, byId, el, mayOperate, tellTrouble, timeText, toast, valueText, zone } from "./app.js";
import { rose } from "./rose.js";

const uPlot = (await import("/static/lib/uplot.js")).default;
const told = JSON.parse(byId("told").textContent);
const COLOURS = 6;
const SPAN_MIN = 1; // seconds
const YEAR = 31557600;

let sensors = told.sensors;
let range = null; // [from, to) in seconds
let data = new Map(); // sensor name to {t, v, source, rows, least, largest}
let flags = [];
let alarms = [];
let chart = null;
let mode = "zoom";
const past = []; // ranges before, for "Back"
const made = []; // flags that were put on here, for "Undo"

// The period and the sensors stand in the address.

function remember() {
  const address = new URLSearchParams(sensors.map((each) => ["sensor", each.sensor]));
  if (range) {
    address.set("from", new Date(range[0] * 1000).toISOString());
    address.set("to", new Date(range[1] * 1000).toISOString());
  }
  history.replaceState(null, "", sensors.length ? `?${address}` : location.pathname);
}

/** From the first reading to the last one of all sensors shown. */
function extent() {
  const firsts = sensors.map((each) => Date.parse(each.first)).filter(Number.isFinite);
  const lasts = sensors.map((each) => Date.parse(each.last)).filter(Number.isFinite);
  if (!firsts.length) return [Date.now() / 1000 - 86400, Date.now() / 1000];
  const end = Math.max(...lasts) / 1000;
  return [Math.min(...firsts) / 1000, end + Math.max(1, ...sensors.map((each) => each.interval_s ?? 0))];
}

function begin() {
  const address = new URLSearchParams(location.search);
  const [from, to] = [Date.parse(address.get("from")), Date.parse(address.get("to"))];
  const [first, last] = extent();
  range = Number.isFinite(from) && Number.isFinite(to) && from < to ? [from / 1000, to / 1000] : [Math.max(first, last - 7 * 86400), last];
}

let coming = null;
let due = 0;

/** Shows another period: at once with what is there, in full as soon as the server has answered. */
function show(from, to, { keep = true } = {}) {
  const middle = (from + to) / 2;
  if (to - from < SPAN_MIN) [from, to] = [middle - SPAN_MIN / 2, middle + SPAN_MIN / 2];
  if (to - from > 100 * YEAR) return;
  if (keep && range) {
    past.push(range);
    if (past.length > 50) past.shift();
  }
  range = [from, to];
  remember();
  if (chart) chart.setScale("x", { min: from, max: to });
  clearTimeout(due);
  if (keep) load();
  else due = setTimeout(load, 120); // wheel and pan: more of it comes at once
}

const device = () => Math.round((chart ? chart.bbox.width : byId("plot").clientWidth * (window.devicePixelRatio || 1)) * 2) || 2000;

async function line(id, signal) {
  const address = new URLSearchParams({ from: iso(range[0]), to: iso(range[1]), width: Math.min(20000, device()), format: "f64" });
  if (byId("good").checked) address.set("good", "true");
  const response = await ask(`/api/v1/sensors/${id}/series?${address}`, { signal, headers: { Accept: "application/octet-stream" } });
  const both = new Float64Array(await response.arrayBuffer());
  const n = both.length / 2;
  return { t: both.subarray(0, n), v: both.subarray(n), source: response.headers.get("Telltale-Source"), rows: Number(response.headers.get("Telltale-Rows")) };
}

const iso = (s) => new Date(s * 1000).toISOString();
const text = (s, sensor) => timeText(s * 1000, sensor?.offset ?? sensors[0]?.offset);

/** Least and largest of statistics, for sensors whose logger gives none: each step is drawn over its whole length. */
async function envelope(each, signal) {
  const step = [[600, "10min"], [3600, "hourly"], [86400, "daily"]].find(([length]) => (range[1] - range[0]) / length <= 2500 && length >= 6 * (each.interval_s ?? 1));
  if (!step) return {};
  const response = await ask(`/api/v1/statistics?${new URLSearchParams({ sensor: each.sensor, from: iso(range[0]), to: iso(range[1]), interval: step[1], format: "csv" })}`, { signal, headers: { Accept: "text/csv" } });
  const [head, ...lines] = (await response.text()).trim().split(/\r?\n/);
  const names = head.split(",");
  const [time, min, max] = ["time", "min", "max"].map((name) => names.indexOf(name) - names.length);
  const [least, largest] = [{ t: [], v: [], source: step[1] }, { t: [], v: [], source: step[1] }];
  for (const one of lines) {
    const cells = one.split(",");
    if (cells.at(min) === "") continue;
    for (const [side, place] of [[least, min], [largest, max]]) {
      side.t.push(Date.parse(cells.at(time)) / 1000);
      side.v.push(Number(cells.at(place)));
    }
  }
  return least.t.length ? { least, largest, stepped: true } : {};
}

async function load() {
  if (!sensors.length) return;
  coming?.abort();
  coming = new AbortController();
  const { signal } = coming;
  const asked = [...range];
  const began = performance.now();
  byId("about").textContent = "loading…";
  try {
    const band = byId("band").checked;
    const marked = byId("marks").checked ? Promise.all([loadFlags(signal), loadAlarms(signal)]) : [[], []];
    Promise.resolve(marked).catch(() => {}); // told below, by whichever fails first
    const found = await Promise.all(sensors.map(async (each) => {
      const both = band && each.least && each.largest;
      const [main, least, largest] = await Promise.all([line(each.sensor_id, signal), both ? line(each.least, signal) : null, both ? line(each.largest, signal) : null]);
      return [each.sensor, { ...main, least, largest, ...(band && !both ? await envelope(each, signal) : {}) }];
    }));
    const marks = await marked;
    if (signal.aborted) return;
    data = new Map(found);
    [flags, alarms] = marks;
    draw(asked);
    const rows = showAbout(asked);
    window.telltale.plot = { ms: performance.now() - began, rows, chart, range, flags };
  } catch (error) {
    if (error.name === "AbortError") return;
    byId("about").textContent = error.message;
    tellTrouble(error);
  }
}

/** Says what is shown; returns of how many rows it is made. */
function showAbout([from, to]) {
  const found = [...data.values()];
  const rows = found.reduce((sum, each) => sum + each.rows, 0);
  const sources = [...new Set(found.map((each) => each.source))].map((each) => (each === "logged" ? "every reading" : `${each} statistics`));
  byId("about").textContent = rows
    ? `${text(from)} to ${text(to)}; made of ${rows.toLocaleString("en")} rows (${sources.join(", ")})`
    : `No readings from ${text(from)} to ${text(to)}. “all” shows everything there is.`;
  return rows;
}

async function loadFlags(signal) {
  const all = await Promise.all(sensors.map((each) => askJson(`/api/v1/flags?${new URLSearchParams({ sensor: each.sensor, from: iso(range[0]), to: iso(range[1]), limit: 500 })}`, { signal })));
  return all.flatMap((page) => page.items);
}

async function loadAlarms(signal) {
  const devices = [...new Set(sensors.map((each) => each.device_id))];
  const shown = new Set(sensors.flatMap((each) => [`device/${each.sensor}`, `device/${each.device_id}`]));
  const all = await Promise.all(devices.map((each) => askJson(`/plot/alarms?${new URLSearchParams({ device: each, begin: iso(range[0]), end: iso(range[1]) })}`, { signal })));
  return all.flat().filter((alarm) => shown.has(alarm.source));
}

// Drawing.

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Where a gap lies, a null: neighbours further apart than readings and pixels can be. */
function gapped({ t, v, source }, interval) {
  const step = { "10min": 600, hourly: 3600, daily: 86400 }[source] ?? interval;
  const least = Math.max((step || Infinity) * 2.5, ((range[1] - range[0]) / device()) * 1.01);
  const [times, values] = [[], []];
  for (let i = 0; i < t.length; i += 1) {
    if (i && t[i] - t[i - 1] > least) {
      times.push((t[i] + t[i - 1]) / 2);
      values.push(null);
    }
    times.push(t[i]);
    values.push(v[i]);
  }
  return [times, values];
}

function tables() {
  const [joined, series, bands] = [[], [{}], []];
  sensors.forEach((each, n) => {
    const found = data.get(each.sensor);
    if (!found) return;
    const colour = css(`--series-${(n % COLOURS) + 1}`);
    const scale = each.unit || "1";
    const value = (_, v) => (v === null || v === undefined ? "–" : `${valueText(v)} ${each.unit}`);
    if (found.least && found.largest) {
      joined.push(gapped(found.largest, each.interval_s), gapped(found.least, each.interval_s));
      const edge = { scale, stroke: "transparent", value, points: { show: false }, paths: found.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined };
      series.push({ ...edge, label: `${each.sensor} largest` }, { ...edge, label: `${each.sensor} least` });
      bands.push({ series: [series.length - 2, series.length - 1], fill: `${colour}33` });
    }
    joined.push(gapped(found, each.interval_s));
    series.push({ label: each.sensor, scale, stroke: colour, width: 1, dash: n >= COLOURS ? [6, 3] : undefined, value, points: { show: (u, i) => dense(u, i) } });
  });
  return { data: joined.length ? uPlot.join(joined, joined.map((table) => table.map(() => 1))) : [[], []], series, bands };
}

// Lines are one pixel wide: browsers without a graphics card draw a thousand steep ones so in 5 ms, wider ones in 120.
/** Points are shown where they stand apart. */
function dense(u, i) {
  const there = u.data[i].reduce((sum, v) => sum + (v !== null && v !== undefined), 0);
  return there < u.bbox.width / 12;
}

function axes() {
  const [ink, grid] = [css("--soft"), css("--grid")];
  const units = [...new Set(sensors.map((each) => each.unit || "1"))];
  const common = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1 }, font: "12px system-ui, sans-serif" };
  const day = "\n{YYYY}-{MM}-{DD}";
  const steps = [
    [3600 * 24 * 365, "{YYYY}", null, null, null, null, null, null, 1],
    [3600 * 24 * 28, "{YYYY}-{MM}", null, null, null, null, null, null, 1],
    [3600 * 24, "{MM}-{DD}", "\n{YYYY}", null, null, null, null, null, 1],
    [60, "{HH}:{mm}", day, null, "\n{MM}-{DD}", null, null, null, 1],
    [1, "{HH}:{mm}:{ss}", day, null, "\n{MM}-{DD}", null, null, null, 1],
    [0.001, ":{ss}.{fff}", `${day} {HH}:{mm}`, null, "\n{MM}-{DD} {HH}:{mm}", null, "\n{HH}:{mm}", null, 1],
  ];
  return [
    { ...common, values: steps, space: 78 },
    ...units.map((unit, n) => ({ ...common, scale: unit, side: n % 2 ? 1 : 3, grid: { ...common.grid, show: n === 0 }, size: 62, label: unit === "1" ? "" : unit, labelSize: 20, labelFont: "12px system-ui, sans-serif", values: (_, ticks) => ticks.map(valueText) })),
  ];
}

function shifted() {
  const offset = sensors[0]?.offset;
  return zone() === "station" && offset !== null && offset !== undefined ? Number(offset) * 60 : 0;
}

function draw(asked) {
  const place = byId("plot");
  const made = tables();
  const wanted = JSON.stringify([sensors.map((each) => each.sensor), made.series.length, document.documentElement.dataset.theme, zone()]);
  if (chart && chart.wanted === wanted) {
    chart.setData(made.data, false);
    chart.setScale("x", { min: asked[0], max: asked[1] });
    chart.redraw(true, true);
    return showFlags();
  }
  chart?.destroy();
  const shift = shifted();
  chart = new uPlot({
    width: place.clientWidth,
    height: Math.max(300, Math.min(560, window.innerHeight - 330)),
    tzDate: (s) => uPlot.tzDate(new Date((s + shift) * 1000), "Etc/UTC"),
    series: [{ label: "Time", value: (_, s) => (s === null || s === undefined ? "–" : text(s)) }, ...made.series.slice(1)],
    bands: made.bands,
    axes: axes(),
    scales: { x: { time: true, auto: false, range: () => range } },
    cursor: { drag: { x: true, y: false, setScale: false }, focus: { prox: 24 }, bind: { mousedown: (_, __, handler) => (event) => { if (mode !== "pan" && !event.shiftKey) handler(event); return null; }, dblclick: () => () => { back(); return null; } } },
    hooks: { setSelect: [selected], drawClear: [bands] },
  }, made.data, place);
  chart.setScale("x", { min: asked[0], max: asked[1] });
  chart.wanted = wanted;
  wheel(chart);
  pan(chart);
  showFlags();
}

/** Flags behind the series, with their category in words; alarms as hatched bands at the foot. */
function bands(u) {
  const pen = u.ctx;
  const { left, top, width, height } = u.bbox;
  const scale = window.devicePixelRatio || 1;
  const place = (s) => Math.max(left, Math.min(left + width, u.valToPos(s, "x", true)));
  pen.save();
  pen.beginPath();
  pen.rect(left, top, width, height);
  pen.clip();
  pen.font = `${11 * scale}px system-ui, sans-serif`;
  pen.textAlign = "left"; // the axes have left theirs
  pen.textBaseline = "alphabetic";
  for (const flag of flags) {
    const [a, b] = [place(flag.begin ? Date.parse(flag.begin) / 1000 : range[0]), place(flag.end ? Date.parse(flag.end) / 1000 : range[1])];
    pen.fillStyle = `${flag.colour}40`;
    pen.fillRect(a, top, Math.max(1, b - a), height);
    pen.fillStyle = flag.colour;
    pen.fillRect(a, top, Math.max(1, b - a), 3 * scale);
    pen.fillStyle = css("--ink");
    if (b - a > 40 * scale) pen.fillText(flag.category, a + 4 * scale, top + 15 * scale, b - a - 6 * scale);
  }
  for (const alarm of alarms) {
    const [a, b] = [place(Date.parse(alarm.onset) / 1000), place(alarm.ended ? Date.parse(alarm.ended) / 1000 : range[1])];
    const high = 12 * scale;
    const y = top + height - high;
    pen.strokeStyle = css("--cell-bad");
    pen.lineWidth = scale;
    pen.strokeRect(a, y, Math.max(1, b - a), high);
    pen.beginPath();
    for (let x = a; x < b; x += 6 * scale) {
      pen.moveTo(x, y + high);
      pen.lineTo(Math.min(b, x + high), y);
    }
    pen.stroke();
    if (b - a > 60 * scale) {
      pen.fillStyle = css("--ink");
      pen.fillText(`alarm: ${alarm.rule}`, a + 4 * scale, y - 4 * scale, b - a - 6 * scale);
    }
  }
  pen.restore();
}

// Moving and zooming.

function selected(u) {
  if (u.select.width < 3) return;
  const [from, to] = [u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")];
  u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  if (mode === "flag") openFlag(from, to);
  else show(from, to);
}

function wheel(u) {
  u.over.addEventListener("wheel", (event) => {
    event.preventDefault();
    const at = u.posToVal(event.offsetX, "x");
    const factor = event.deltaY < 0 ? 0.75 : 1 / 0.75;
    show(at - (at - range[0]) * factor, at + (range[1] - at) * factor, { keep: false });
  }, { passive: false });
}

function pan(u) {
  u.over.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || (mode !== "pan" && !event.shiftKey)) return;
    event.preventDefault();
    const [x, [from, to]] = [event.clientX, range];
    const perPixel = (to - from) / u.over.clientWidth;
    u.over.setPointerCapture(event.pointerId);
    const move = (next) => show(from - (next.clientX - x) * perPixel, to - (next.clientX - x) * perPixel, { keep: false });
    const end = () => { u.over.removeEventListener("pointermove", move); past.push([from, to]); };
    u.over.addEventListener("pointermove", move);
    u.over.addEventListener("pointerup", end, { once: true });
    u.over.addEventListener("pointercancel", end, { once: true });
  });
}

const move = (share) => show(range[0] + (range[1] - range[0]) * share, range[1] + (range[1] - range[0]) * share);
const zoom = (factor) => {
  const [middle, half] = [(range[0] + range[1]) / 2, ((range[1] - range[0]) / 2) * factor];
  show(middle - half, middle + half);
};
function back() {
  const before = past.pop();
  if (before) show(...before, { keep: false });
}

byId("earlier").addEventListener("click", () => move(-0.5));
byId("later").addEventListener("click", () => move(0.5));
byId("closer").addEventListener("click", () => zoom(0.5));
byId("wider").addEventListener("click", () => zoom(2));
byId("back").addEventListener("click", back);
byId("plot").addEventListener("keydown", (event) => {
  const does = { ArrowLeft: () => move(-0.25), ArrowRight: () => move(0.25), "+": () => zoom(0.5), "-": () => zoom(2), Backspace: back }[event.key];
  if (does) {
    event.preventDefault();
    does();
  }
});
for (const button of document.querySelectorAll("[data-span]")) {
  button.addEventListener("click", () => {
    const [first, last] = extent();
    const span = Number(button.dataset.span);
    if (!span) return show(first, last);
    const end = Math.min(Math.max(range[1], first + span), last);
    show(end - span, end);
  });
}
function setMode(next) {
  mode = next;
  for (const each of ["zoom", "pan", "flag"]) byId(`mode-${each}`)?.setAttribute("aria-pressed", String(each === mode));
}
for (const each of ["zoom", "pan", "flag"]) byId(`mode-${each}`)?.addEventListener("click", () => setMode(each));
for (const each of ["band", "good", "marks"]) byId(each).addEventListener("change", () => { chart?.destroy(); chart = null; byId("plot").replaceChildren(); load(); });
new ResizeObserver(() => { if (chart && chart.width !== byId("plot").clientWidth) { chart.setSize({ width: byId("plot").clientWidth, height: chart.height }); clearTimeout(due); due = setTimeout(load, 300); } }).observe(byId("plot"));
for (const each of ["theme", "zone"]) document.addEventListener(each, () => { if (chart) { draw(range); showAbout(range); } });

// Flags.

const field = (s) => new Date(Math.round(s) * 1000).toISOString().slice(0, 19);

/** A free drag means readings: its ends are moved to where intervals begin. */
function snapped(from, to) {
  const step = Math.min(...sensors.map((each) => each.interval_s || 1));
  return [Math.floor(from / step) * step, Math.ceil(to / step) * step];
}

function openFlag(from, to) {
  const [begin, end] = snapped(from, to);
  const form = byId("flag-form");
  byId("flag-sensors").replaceChildren(...sensors.map((each, n) => el("label", { class: "row" }, el("input", { type: "checkbox", name: "sensor", value: each.sensor, checked: n === 0 || sensors.length === 1 }), each.sensor)));
  form.elements.begin.value = field(begin);
  form.elements.end.value = field(end);
  byId("flag-problem").hidden = true;
  byId("flag-dialog").showModal();
  form.elements.category.focus();
}
byId("flag-here")?.addEventListener("click", () => openFlag(...range));

byId("flag-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const chosen = [...form.querySelectorAll("[name=sensor]:checked")].map((each) => each.value);
  const period = { begin: `${form.elements.begin.value}Z`, end: `${form.elements.end.value}Z` };
  const off = event.submitter?.value === "off";
  try {
    if (!chosen.length) throw new Error("Choose a sensor.");
    if (off) {
      let touched = 0;
      for (const sensor of chosen) touched += (await askJson("/plot/unflag", { method: "POST", json: { sensor, ...period, category: form.elements.category.value } })).touched;
      toast(touched ? `${touched} flag${touched === 1 ? "" : "s"} of “${form.elements.category.value}” taken off this period` : `no flag of “${form.elements.category.value}” is on this period`, touched ? "good" : "bad");
    } else {
      await putOn(chosen, { ...period, category: form.elements.category.value, reason: form.elements.reason.value });
      toast(`flagged: ${form.elements.category.value}, ${chosen.join(", ")}`);
    }
    byId("flag-dialog").close();
    load();
  } catch (error) {
    byId("flag-problem").textContent = error.message;
    byId("flag-problem").hidden = false;
  }
});

/** Flags these sensors; one that is flagged so already stays as it is, unless all are. */
async function putOn(names, facts) {
  const [ids, covered] = [[], []];
  try {
    for (const sensor of names) {
      try {
        ids.push((await askJson("/api/v1/flags", { method: "POST", json: { sensor, ...facts } })).flag_id);
      } catch (error) {
        if (error.status !== 409) throw error;
        covered.push(error);
      }
    }
    if (!ids.length) throw covered[0];
  } finally {
    if (ids.length) made.push(ids);
    showUndo();
  }
}

/** There is nothing to undo of a flag that is off. */
function forget(id) {
  for (const ids of made) if (ids.includes(id)) ids.splice(ids.indexOf(id), 1);
  while (made.length && !made.at(-1).length) made.pop();
  showUndo();
}

function showUndo() {
  byId("undo").hidden = made.length === 0;
}
byId("undo").addEventListener("click", async () => {
  try {
    for (const id of [...(made.at(-1) ?? [])]) {
      await ask(`/api/v1/flags/${id}`, { method: "DELETE" }).catch((error) => { if (error.status !== 409) throw error; }); // off already
      forget(id);
    }
    toast("the flag is off again");
  } catch (error) {
    tellTrouble(error);
  }
  load();
});

function showFlags() {
  const rows = flags.map((flag) => el("tr", {},
    el("td", {}, el("span", { class: "swatch", data: { colour: flag.colour } }), ` ${flag.category}`),
    el("th", { scope: "row" }, flag.sensor),
    el("td", { class: "small" }, el("span", { class: "nowrap" }, flag.begin ? timeText(Date.parse(flag.begin), sensors[0]?.offset) : "ever"), " to ", el("span", { class: "nowrap" }, flag.end ? timeText(Date.parse(flag.end), sensors[0]?.offset) : "ever")),
    el("td", {}, flag.reason || el("span", { class: "soft" }, "–"), el("br"), el("span", { class: "small soft" }, flag.author)),
    el("td", {}, mayOperate ? el("button", { type: "button", onclick: () => takeOff(flag) }, "Take off") : "")));
  for (const row of rows) row.querySelector(".swatch").style.background = row.querySelector(".swatch").dataset.colour;
  byId("flags").replaceChildren(rows.length
    ? el("div", { class: "wide" }, el("table", { class: "cards-phone" }, el("thead", {}, el("tr", {}, ...["Category", "Sensor", "Period", "Reason", ""].map((each) => el("th", { scope: "col" }, each || el("span", { class: "visually-hidden" }, "Actions"))))), el("tbody", {}, ...rows)))
    : el("p", { class: "empty" }, el("strong", {}, "No flag in this period."), mayOperate ? "Choose “Flag” above and drag over the plot." : "Operators flag bad periods here."));
}

async function takeOff(flag) {
  try {
    await ask(`/api/v1/flags/${flag.flag_id}`, { method: "DELETE" });
    toast(`taken off: ${flag.category}`);
    forget(flag.flag_id);
  } catch (error) {
    tellTrouble(error);
  }
  load();
}

// Sensors.

function showSensors() {
  byId("chips").replaceChildren(...sensors.map((each, n) => {
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = `var(--series-${(n % COLOURS) + 1})`;
    return el("span", { class: "chip", role: "listitem" }, swatch, each.sensor, el("button", { type: "button", "aria-label": `remove ${each.sensor}`, onclick: () => change(sensors.filter((other) => other !== each)) }, "✕"));
  }));
  byId("plot-card").hidden = byId("below").hidden = sensors.length === 0;
  byId("nothing").hidden = sensors.length > 0;
  byId("recal-sensor")?.replaceChildren(...sensors.map((each) => el("option", {}, each.sensor)));
  if (mayOperate) showPast();
}

function change(next) {
  const first = !sensors.length;
  sensors = next;
  data = new Map();
  if (first) begin(); // of a sensor whose readings end years ago, the last seven days of them
  remember();
  showSensors();
  load();
}

let finding = 0;
byId("add-name").addEventListener("input", () => {
  clearTimeout(finding);
  finding = setTimeout(async () => {
    try {
      const found = await askJson(`/plot/find?${new URLSearchParams({ q: byId("add-name").value })}`);
      byId("found").replaceChildren(...found.map((each) => el("option", { value: each.sensor }, [each.quantity, each.statistic, each.height_m === null ? "" : `${each.height_m} m`, each.unit].filter(Boolean).join(", "))));
    } catch (error) {
      tellTrouble(error);
    }
  }, 150);
});
byId("add").addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = byId("add-name").value.trim();
  if (!name) return;
  try {
    if (sensors.length >= told.sensors_max) throw new Error(`a plot shows ${told.sensors_max} sensors at most: take one out first`);
    let found = await askJson(`/plot/sensors?${new URLSearchParams({ sensor: name })}`);
    if (!found.length) {
      const close = await askJson(`/plot/find?${new URLSearchParams({ q: name })}`);
      if (close.length !== 1) throw new Error(close.length ? `“${name}” fits ${close.length === 30 ? "many" : close.length} sensors: choose one of the list` : `no sensor is called “${name}”`);
      found = await askJson(`/plot/sensors?${new URLSearchParams({ sensor: close[0].sensor })}`);
    }
    byId("add-name").value = "";
    if (!sensors.some((each) => each.sensor === found[0].sensor)) change([...sensors, found[0]]);
  } catch (error) {
    toast(error.message, "bad");
  }
});

// Wind rose and recalibration.

byId("rose-go").addEventListener("click", async () => {
  try {
    byId("rose").replaceChildren(el("p", { class: "soft" }, "counting…"));
    const found = await askJson(`/plot/rose?${new URLSearchParams({ device: sensors[0].device_id, sensor: sensors[0].sensor_id, begin: iso(range[0]), end: iso(range[1]) })}`);
    byId("rose").replaceChildren(rose(found));
  } catch (error) {
    byId("rose").replaceChildren(el("p", { class: "trouble" }, error.message));
  }
});

const NOTICED_MS_MAX = 120000; // from the start of a recalibration until it stands in the database
let watching = 0;
let newest = 0; // number of the newest recalibration that is known
let awaited = 0; // until when one that was begun here is looked for, in milliseconds

async function showPast() {
  clearTimeout(watching);
  if (!sensors.length) return;
  try {
    const found = await askJson(`/plot/recalibrations?${new URLSearchParams(sensors.map((each) => ["sensor", each.sensor]))}`);
    byId("recal-past").replaceChildren(...(found.length ? [el("h3", {}, "Before"), el("div", { class: "wide" }, el("table", { class: "cards-phone" }, el("tbody", {}, ...found.map((each) => el("tr", {}, el("th", { scope: "row" }, each.sensor), el("td", {}, timeText(Date.parse(each.started))), el("td", {}, each.author), el("td", {}, each.finished ? `${each.changed.toLocaleString("en")} of ${each.rows.toLocaleString("en")} changed` : el("span", {}, el("progress", { max: 1, value: each.share ?? 0, "aria-label": "progress" }), ` ${Math.round(100 * (each.share ?? 0))} %`)))))))] : []));
    const last = Math.max(newest, ...found.map((each) => each.recalibration_id));
    if (last > newest) awaited = 0;
    newest = last;
    if (found.some((each) => !each.finished) || Date.now() < awaited) watching = setTimeout(showPast, 1500);
    else if (watching) {
      watching = 0;
      byId("recal-told").querySelector("[data-at-work]")?.remove();
      load();
    }
  } catch (error) {
    tellTrouble(error);
  }
}

byId("recal")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const start = event.submitter.value === "start";
  const asked = { sensor: byId("recal-sensor").value, dry_run: !start };
  if (byId("recal-period").value === "shown") Object.assign(asked, { begin: iso(range[0]), end: iso(range[1]) });
  const place = byId("recal-told");
  place.replaceChildren(el("p", { class: "soft" }, start ? "starting…" : "computing what would change…"));
  event.submitter.disabled = true;
  try {
    const found = await askJson("/plot/recalibrate", { method: "POST", json: asked });
    const each = found.sensors?.[0];
    place.replaceChildren(el("p", { data: found.running ? { atWork: "1" } : {} }, el("strong", {}, found.message)), ...(each && each.before ? [beforeAfter(each)] : []));
    byId("recal-start").disabled = start;
    if (start) {
      watching = 1;
      awaited = found.running ? Date.now() + NOTICED_MS_MAX : 0;
      showPast();
    }
  } catch (error) {
    place.replaceChildren(el("p", { class: "trouble" }, error.message));
  } finally {
    if (!start) event.submitter.disabled = false;
  }
});
for (const each of ["recal-sensor", "recal-period"]) byId(each)?.addEventListener("change", () => { byId("recal-start").disabled = true; byId("recal-told").replaceChildren(); });

function beforeAfter(each) {
  const names = ["mean", "min", "max", "not_calibrated"].filter((name) => name in each.before);
  return el("div", { class: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), el("th", { scope: "col", class: "num" }, "before"), el("th", { scope: "col", class: "num" }, "after"))), el("tbody", {}, ...names.map((name) => el("tr", {}, el("th", { scope: "row" }, name.replace("_", " ")), el("td", { class: "num" }, valueText(each.before[name])), el("td", { class: "num" }, valueText(each.after[name])))))));
}

if (sensors.length) begin();
showSensors();
load();
