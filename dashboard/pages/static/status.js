// The status page: tiles, the fleet as a strip, a table of thousands of rows of which only those in view exist.

import { STATES, ask, byId, el, mayOperate, serverNow, spanText, tellTrouble, timeText, toast, valueText } from "./app.js";
import { line, live, send } from "./live.js";

const FLAGS = { 1: "good", 2: "not evaluated", 3: "suspect", 4: "fail", 9: "missing" };
const ROW_PX = 36;
const SPARK = 60;
const SORT_MS = 2000; // rows that jump while somebody reads help nobody

let fleet = null; // the last picture, kept up to date
let order = []; // numbers of the rows that the filter lets through, sorted
let view = "sensors";
let sort = { key: "state", down: true };
let sortedAt = -Infinity;
const sparks = new Map(); // sensor number to its newest values
const alarms = new Map();
const pool = []; // the rows that exist
const alarmed = new Map(); // source to number of standing alarms

const name = (d) => fleet.devices.id[d];

const COLUMNS = {
  sensors: [
    { key: "name", label: "Sensor", text: (i) => `${name(fleet.sensors.device[i])}/${fleet.sensors.channel[i]}` },
    { key: "state", label: "State", value: (i) => fleet.sensors.s[i] * 4 + (fleet.sensors.f[i] > 2 ? 1 : 0) },
    { key: "value", label: "Last value", num: true, value: (i) => fleet.sensors.v[i] },
    { key: "age", label: "Age", num: true, value: (i) => -fleet.sensors.h[i] },
    { key: "quality", label: "Good, 1 h", num: true, phone: false, value: (i) => fleet.sensors.q[i] ?? 2 },
    { key: "spark", label: "Newest 60", phone: false },
  ],
  devices: [
    { key: "name", label: "Device", text: (d) => name(d) },
    { key: "station", label: "Station", phone: false, text: (d) => fleet.devices.station_name[d] },
    { key: "state", label: "State", value: (d) => fleet.devices.s[d] },
    { key: "sensors", label: "Sensors online", num: true, phone: false, value: (d) => -fleet.bad[d] },
    { key: "age", label: "Heard", num: true, value: (d) => -fleet.devices.h[d] },
    { key: "beat", label: "Heartbeat", num: true, value: (d) => -fleet.devices.b[d] },
  ],
};

// What the server says.

live.addEventListener("message", ({ detail: told }) => {
  if (told.t === "s") picture(told);
  else if (told.t === "d" && fleet) changes(told);
  else if (told.t === "p" && fleet) told.i.forEach((i, n) => sparks.set(i, told.p[n]));
  if (told.t === "e") events(told);
  if (told.tiles) tiles(told.tiles);
  if (told.t === "p") return paintRows();
  if (told.now) byId("as-of").textContent = `as of ${timeText(told.now, null, { date: false })}`;
  if (told.t !== "d" || told.i.length || told.tiles) paint();
});

function picture(told) {
  if (told.sensors) {
    fleet = told;
    fleet.stateOf = new Map();
    sparks.clear();
    stations();
    countBad();
    sortedAt = -Infinity;
  }
  alarms.clear();
  for (const alarm of told.alarms) alarms.set(alarm.id, alarm);
  showAlarms(told.standing);
}

function changes(told) {
  const { sensors } = fleet;
  told.i.forEach((i, n) => {
    if (told.e[n] !== sensors.e[i] && sparks.has(i)) {
      const values = sparks.get(i);
      values.push(told.v[n]);
      if (values.length > SPARK) values.shift();
    }
    for (const column of "vfsheq") sensors[column][i] = told[column][n];
  });
  if (told.devices) Object.assign(fleet.devices, told.devices);
  if (told.i.length) countBad();
}

function events(told) {
  for (const alarm of told.alarms ?? []) {
    if (alarm.state === "cleared") {
      const known = alarms.get(alarm.id);
      if (known) known.gone = alarm;
      setTimeout(() => { alarms.delete(alarm.id); showAlarms(); }, 6000);
    } else alarms.set(alarm.id, alarm);
  }
  if (told.alarms) showAlarms(told.standing);
}

function countBad() {
  fleet.bad = new Array(fleet.devices.id.length).fill(0);
  fleet.online = new Array(fleet.devices.id.length).fill(0);
  fleet.count = new Array(fleet.devices.id.length).fill(0);
  const { device, active, s } = fleet.sensors;
  for (let i = 0; i < device.length; i += 1) {
    if (!active[i]) continue;
    fleet.count[device[i]] += 1;
    if (s[i] === 1) fleet.online[device[i]] += 1;
    else fleet.bad[device[i]] += 1;
  }
}

// Tiles. README.md of `dashboard` defines each.

function tile(key, value, more, tone) {
  const box = document.querySelector(`[data-tile="${key}"]`);
  const [shown, under] = [box.querySelector(".value"), box.querySelector(".more")];
  if (shown.textContent !== value) shown.textContent = value;
  if (more !== undefined && under.textContent !== more) under.textContent = more;
  box.dataset.tone = tone ?? "";
}

const share = (x) => (x === null || x === undefined ? "–" : `${(100 * x).toFixed(1)} %`);
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function tiles(told) {
  const [waiting, online, late, silent] = told.sensors;
  const of = waiting + online + late + silent;
  tile("online", String(online), `of ${of}; ${plural(told.devices[1], "device")}`, of && online === of ? "good" : "");
  tile("late", String(late), plural(told.devices[2], "device"), late ? "late" : "good");
  tile("silent", String(silent), plural(told.devices[3], "device") + (waiting ? `; ${waiting} never heard` : ""), silent ? "bad" : "good");
  const beating = told.beating;
  tile("beat", beating ? share(told.without_beat / beating) : "–", beating ? `${told.without_beat} of ${beating} sensors` : "no device sends heartbeats", told.without_beat ? "bad" : beating ? "good" : "");
  const figures = told.figures ?? {};
  const looked = (key, text) => (key in figures ? (figures[key] === null ? "–" : text(figures[key])) : "…");
  tile("rejected", looked("rejected", (n) => n.toLocaleString("en")), undefined, figures.rejected ? "late" : "good");
  tile("between", looked("between_beats_s", (s) => `${s < 100 ? s.toFixed(1) : Math.round(s)} s`));
  tile("life", looked("life_s", spanText));
  tile("recovery", looked("recovery", share), undefined, figures.recovery === undefined || figures.recovery === null ? "" : figures.recovery > 0.95 ? "good" : figures.recovery > 0.8 ? "late" : "bad");
  const health = Object.entries(told.health ?? {});
  const bad = health.filter(([, part]) => part.state === "away" || part.state === "standing");
  const behind = health.filter(([, part]) => part.state === "behind");
  const words = [...bad.map(([part, { state }]) => `${part} ${state === "away" ? "does not answer" : "stands still"}`), ...behind.map(([part, { waiting: n }]) => `${part} behind by ${n.toLocaleString("en")}`)];
  tile("pipeline", health.length ? (bad.length ? "trouble" : behind.length ? "behind" : "working") : "…", words.join(", ") || (health.length ? "nothing waits" : ""), bad.length ? "bad" : behind.length ? "late" : health.length ? "good" : "");
}

// The strip: colour and shape, late half filled, silent a bow tie.

const strip = byId("strip");
let blocks = [];

function paintStrip() {
  if (!fleet) return;
  const style = getComputedStyle(document.documentElement);
  const colour = ["--cell-none", "--cell-good", "--cell-late", "--cell-bad"].map((each) => style.getPropertyValue(each).trim());
  const { device, active, s } = fleet.sensors;
  const groups = new Map();
  for (let i = 0; i < device.length; i += 1) {
    if (!active[i]) continue;
    if (!groups.has(device[i])) groups.set(device[i], []);
    groups.get(device[i]).push(i);
  }
  const width = strip.clientWidth;
  const total = [...groups.values()].reduce((sum, each) => sum + each.length, 0);
  const crowd = width < 500 ? 3 * total : total; // a phone has a third of the room
  const size = crowd > 4000 ? 4 : crowd > 1500 ? 6 : crowd > 300 ? 8 : 12;
  const rows = total > 1500 ? 5 : 4;
  const gap = Math.max(2, size / 2);
  blocks = [];
  let [x, y] = [0, 0];
  const high = rows * (size + 1) + gap;
  for (const [d, members] of groups) {
    const wide = Math.ceil(members.length / rows) * (size + 1);
    if (x > 0 && x + wide > width) [x, y] = [0, y + high];
    blocks.push({ d, members, x, y, wide });
    x += wide + gap;
  }
  const height = Math.max(24, y + high);
  const scale = window.devicePixelRatio || 1;
  if (strip.width !== Math.round(width * scale) || strip.height !== Math.round(height * scale)) {
    strip.width = Math.round(width * scale);
    strip.height = Math.round(height * scale);
    strip.style.height = `${height}px`;
  }
  const pen = strip.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  for (const block of blocks) {
    block.members.forEach((i, n) => {
      const [cx, cy] = [block.x + Math.floor(n / rows) * (size + 1), block.y + (n % rows) * (size + 1)];
      pen.fillStyle = colour[s[i]];
      if (s[i] === 2) {
        pen.globalAlpha = 0.35;
        pen.fillRect(cx, cy, size, size);
        pen.globalAlpha = 1;
        pen.fillRect(cx, cy + size / 2, size, size / 2);
      } else if (s[i] === 3) {
        pen.beginPath();
        pen.moveTo(cx, cy);
        pen.lineTo(cx + size, cy + size);
        pen.lineTo(cx + size, cy);
        pen.lineTo(cx, cy + size);
        pen.closePath();
        pen.fill();
      } else if (s[i] === 0) pen.fillRect(cx + size / 4, cy + size / 4, size / 2, size / 2);
      else pen.fillRect(cx, cy, size, size);
    });
  }
  const counts = [0, 0, 0, 0];
  for (const block of blocks) for (const i of block.members) counts[s[i]] += 1;
  strip.setAttribute("aria-label", `The fleet: ${STATES.map((word, n) => `${counts[n]} ${word}`).join(", ")}`);
}

const blockAt = (event) => {
  const box = strip.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  return blocks.filter((b) => y >= b.y && x >= b.x && x <= b.x + b.wide).at(-1);
};
strip.addEventListener("mousemove", (event) => {
  const block = blockAt(event);
  strip.title = block ? `${name(block.d)}: ${STATES[fleet.devices.s[block.d]]}` : "";
});
strip.addEventListener("click", (event) => {
  const block = blockAt(event);
  if (block) setFilter(name(block.d));
});

// The table.

const scroll = byId("scroll");
const table = byId("table");
const [thead, tbody] = [table.tHead, table.tBodies[0]];
const above = el("tr", { class: "filler", "aria-hidden": "true" }, el("td", { colspan: 6 }));
const below = el("tr", { class: "filler", "aria-hidden": "true" }, el("td", { colspan: 6 }));
tbody.append(above, below);

function head() {
  const cells = COLUMNS[view].map((column) => {
    const th = el("th", { scope: "col", class: `${column.num ? "num" : ""} ${column.phone === false ? "hide-phone" : ""}` });
    if (column.key === "spark") th.textContent = column.label;
    else {
      th.append(el("button", { type: "button", onclick: () => sortBy(column.key) }, column.label));
      if (sort.key === column.key) th.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    }
    return th;
  });
  thead.replaceChildren(el("tr", {}, ...cells));
}

function sortBy(key) {
  const focused = [...thead.querySelectorAll("button")].indexOf(document.activeElement);
  sort = sort.key === key ? { key, down: !sort.down } : { key, down: key === "state" };
  head();
  if (focused >= 0) thead.querySelectorAll("button")[focused]?.focus();
  sortedAt = -Infinity;
  remember();
  paint();
}

function choose() {
  if (!fleet) return;
  const now = performance.now();
  if (now - sortedAt < SORT_MS) return;
  sortedAt = now;
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const [state, station] = [byId("filter-state").value, byId("filter-station").value];
  const { sensors, devices } = fleet;
  const found = [];
  const fits = (s, text) => (state === "" || (state === "bad" ? s >= 2 : state === "flag" ? false : s === Number(state))) && words.every((word) => text.includes(word));
  if (view === "sensors") {
    for (let i = 0; i < sensors.device.length; i += 1) {
      const d = sensors.device[i];
      if (!sensors.active[i] || (station && devices.station[d] !== station)) continue;
      const text = words.length ? `${devices.id[d]}/${sensors.channel[i]} ${devices.name[d]} ${sensors.quantity[i]}`.toLowerCase() : "";
      const flagged = state === "flag" && sensors.f[i] > 2 && words.every((word) => text.includes(word));
      if (flagged || fits(sensors.s[i], text)) found.push(i);
    }
  } else {
    for (let d = 0; d < devices.id.length; d += 1) {
      if (!devices.active[d] || (station && devices.station[d] !== station)) continue;
      if (fits(devices.s[d], `${devices.id[d]} ${devices.name[d]} ${devices.station_name[d]}`.toLowerCase())) found.push(d);
    }
  }
  const column = COLUMNS[view].find((each) => each.key === sort.key) ?? COLUMNS[view][0];
  const sign = sort.down ? -1 : 1;
  if (column.text) {
    const texts = new Map(found.map((i) => [i, column.text(i)]));
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    found.sort((a, b) => sign * compare(texts.get(a), texts.get(b)));
  } else {
    const value = (i) => column.value(i) ?? -Infinity;
    found.sort((a, b) => sign * (value(a) - value(b)) || a - b);
  }
  order = found;
  table.setAttribute("aria-rowcount", String(order.length + 1));
  const all = view === "sensors" ? sensors.active.reduce((sum, each) => sum + each, 0) : devices.active.reduce((sum, each) => sum + each, 0);
  byId("shown").textContent = order.length === all ? `${all} ${view}` : `${order.length} of ${all} ${view}`;
  const empty = byId("empty");
  empty.hidden = order.length > 0;
  scroll.hidden = order.length === 0;
  if (!order.length) empty.replaceChildren(...(all
    ? [el("strong", {}, "Nothing fits the filter."), el("button", { type: "button", onclick: () => setFilter("") }, "Show all")]
    : [el("strong", {}, "No device is configured yet."), "Import a station's data model: telltale stations import FILE, or look at the demo: telltale demo --keep"]));
}

function makeRow() {
  const row = el("tr", { class: "row" });
  const cells = {};
  for (const column of COLUMNS[view]) {
    const cell = column.key === "name" ? el("th", { scope: "row", class: "name" }) : el("td", { class: `${column.num ? "num" : column.text ? "words" : ""} ${column.phone === false ? "hide-phone" : ""}` });
    cells[column.key] = cell;
    row.append(cell);
  }
  const [owner, channel] = [el("span"), el("span")]; // a line each on a phone
  const link = el("a", {}, owner, channel);
  cells.name.append(link);
  const state = el("span", { class: "state" });
  const flag = el("span", { class: "flag" });
  const bell = el("span", { class: "severity", data: { severity: "major" } });
  cells.state.append(state, " ", flag, " ", bell);
  let path = null;
  if (cells.spark) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "spark");
    svg.setAttribute("viewBox", "0 0 120 24");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.append(path);
    cells.spark.append(svg);
  }
  return { row, cells, link, owner, channel, state, flag, bell, path, shown: {} };
}

/** Touches what differs only: text nodes of rows in view, forty of thousands. */
function set(item, key, node, value, how = "textContent") {
  if (item.shown[key] === value) return;
  item.shown[key] = value;
  if (how === "textContent") node.textContent = value;
  else if (how === "hidden") node.hidden = value;
  else if (how.startsWith("data-")) node.dataset[how.slice(5)] = value;
  else node.setAttribute(how, value);
}

function fillSensor(item, i, now) {
  const { sensors, devices } = fleet;
  const d = sensors.device[i];
  const text = `${devices.id[d]}/${sensors.channel[i]}`;
  set(item, "owner", item.owner, `${devices.id[d]}/`);
  set(item, "channel", item.channel, sensors.channel[i]);
  set(item, "href", item.link, `/plot?sensor=${encodeURIComponent(text)}`, "href");
  const s = sensors.s[i];
  set(item, "s", item.state, STATES[s]);
  set(item, "ds", item.state, String(s), "data-state");
  const f = sensors.f[i];
  set(item, "f", item.flag, f > 2 ? FLAGS[f] ?? String(f) : "");
  set(item, "df", item.flag, String(f), "data-flag");
  set(item, "hf", item.flag, f <= 2, "hidden");
  bell(item, alarmed.get(`device/${text}`) ?? 0);
  set(item, "v", item.cells.value, `${valueText(sensors.v[i])} ${sensors.unit[i]}`.trim());
  set(item, "a", item.cells.age, sensors.h[i] ? spanText((now - sensors.h[i]) / 1000) : "–");
  set(item, "q", item.cells.quality, sensors.q[i] === null ? "–" : `${Math.floor(sensors.q[i] * 1000) / 10} %`);
  set(item, "p", item.path, sparkPath(sparks.get(i)), "d");
}

function fillDevice(item, d, now) {
  const { devices } = fleet;
  set(item, "owner", item.owner, devices.id[d]);
  set(item, "href", item.link, `/devices/${encodeURIComponent(devices.id[d])}`, "href");
  set(item, "s", item.state, STATES[devices.s[d]]);
  set(item, "ds", item.state, String(devices.s[d]), "data-state");
  set(item, "hf", item.flag, true, "hidden");
  bell(item, alarmed.get(`device/${devices.id[d]}`) ?? 0);
  set(item, "st", item.cells.station, devices.station_name[d]);
  set(item, "n", item.cells.sensors, `${fleet.online[d]} of ${fleet.count[d]}`);
  set(item, "a", item.cells.age, devices.h[d] ? spanText((now - devices.h[d]) / 1000) : "–");
  set(item, "b", item.cells.beat, devices.b[d] ? spanText((now - devices.b[d]) / 1000) : "none");
}

function bell(item, n) {
  set(item, "hb", item.bell, n === 0, "hidden");
  set(item, "b#", item.bell, n === 1 ? "alarm" : `${n} alarms`);
}

function sparkPath(values) {
  if (!values) return "";
  const there = values.filter((v) => v !== null && Number.isFinite(v));
  if (there.length < 2) return "";
  const [low, high] = [Math.min(...there), Math.max(...there)];
  const span = high - low || 1;
  let [path, pen] = ["", "M"];
  values.forEach((v, n) => {
    if (v === null || !Number.isFinite(v)) { pen = "M"; return; }
    path += `${pen}${((n / (SPARK - 1)) * 120).toFixed(1)} ${(22 - ((v - low) / span) * 20).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

function paintRows() {
  if (!fleet) return;
  const seen = Math.ceil((scroll.clientHeight || 600) / ROW_PX) + 6;
  const first = Math.max(0, Math.min(Math.floor(scroll.scrollTop / ROW_PX) - 3, order.length - seen));
  const last = Math.min(order.length, first + seen);
  while (pool.length < last - first) {
    const item = makeRow();
    pool.push(item);
    tbody.insertBefore(item.row, below);
  }
  const now = serverNow();
  const wanted = [];
  pool.forEach((item, n) => {
    const at = first + n;
    set(item, "hidden", item.row, at >= last, "hidden");
    if (at >= last) return;
    set(item, "index", item.row, String(at + 2), "aria-rowindex");
    if (view === "sensors") {
      fillSensor(item, order[at], now);
      if (!sparks.has(order[at])) wanted.push(order[at]);
    } else fillDevice(item, order[at], now);
  });
  above.firstChild.style.height = `${first * ROW_PX}px`;
  below.firstChild.style.height = `${Math.max(0, order.length - last) * ROW_PX}px`;
  if (wanted.length) {
    for (const i of wanted) sparks.set(i, []);
    send({ want: wanted });
  }
}

let asked = false;
function paint() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    choose();
    paintRows();
    paintStrip();
  });
}
scroll.addEventListener("scroll", () => requestAnimationFrame(paintRows), { passive: true });
setInterval(() => { if (line.isUp && !document.hidden) { choose(); paintRows(); showDurations(); } }, 1000);
new ResizeObserver(paint).observe(scroll);
document.addEventListener("theme", paint);

function setView(next) {
  view = next;
  byId("list-sensors").setAttribute("aria-pressed", String(view === "sensors"));
  byId("list-devices").setAttribute("aria-pressed", String(view === "devices"));
  for (const item of pool.splice(0)) item.row.remove();
  if (!COLUMNS[view].some((each) => each.key === sort.key)) sort = { key: "state", down: true };
  head();
  sortedAt = -Infinity;
  scroll.scrollTop = 0;
  paint();
}

function setFilter(text) {
  byId("filter").value = text;
  if (!text) {
    byId("filter-state").value = "";
    byId("filter-station").value = "";
  }
  filterChanged();
}

function filterChanged() {
  sortedAt = -Infinity;
  scroll.scrollTop = 0;
  remember();
  paint();
}

function stations() {
  const select = byId("filter-station");
  const chosen = select.value || new URLSearchParams(location.search).get("station") || "";
  const names = new Map(fleet.devices.station.map((id, d) => [id, fleet.devices.station_name[d] || id]));
  select.replaceChildren(el("option", { value: "" }, "all stations"), ...[...names].filter(([id]) => id).sort().map(([id, text]) => el("option", { value: id }, text)));
  select.value = chosen;
}

/** What is filtered and how it is sorted stands in the address, so that it can be sent to a colleague. */
function remember() {
  const told = new URLSearchParams();
  const facts = { view: view === "sensors" ? "" : view, q: byId("filter").value, state: byId("filter-state").value, station: byId("filter-station").value, sort: sort.key === "state" && sort.down ? "" : `${sort.down ? "-" : ""}${sort.key}` };
  for (const [key, value] of Object.entries(facts)) if (value) told.set(key, value);
  history.replaceState(null, "", told.size ? `?${told}` : location.pathname);
}

function recall() {
  const told = new URLSearchParams(location.search);
  byId("filter").value = told.get("q") ?? "";
  byId("filter-state").value = told.get("state") ?? "";
  const key = told.get("sort");
  if (key) sort = { key: key.replace(/^-/, ""), down: key.startsWith("-") };
  setView(told.get("view") === "devices" ? "devices" : "sensors");
}

byId("list-sensors").addEventListener("click", () => { setView("sensors"); remember(); });
byId("list-devices").addEventListener("click", () => { setView("devices"); remember(); });
for (const id of ["filter", "filter-state", "filter-station"]) byId(id).addEventListener("input", filterChanged);

// Alarms beside the table.

const RANK = { critical: 0, major: 1, minor: 2, warning: 3 };
let standing = 0;

function showAlarms(count) {
  if (count !== undefined) standing = count;
  alarmed.clear();
  for (const alarm of alarms.values()) if (!alarm.gone) alarmed.set(alarm.source, (alarmed.get(alarm.source) ?? 0) + 1);
  const list = [...alarms.values()].filter((alarm) => alarm.state !== "shelved" && alarm.state !== "suppressed").sort((a, b) => RANK[a.severity] - RANK[b.severity] || b.onset - a.onset);
  const shown = list.slice(0, 50);
  const focused = document.activeElement?.closest("#alarms [data-alarm]")?.dataset.alarm;
  byId("alarms").replaceChildren(...shown.map(alarmItem));
  if (focused) byId("alarms").querySelector(`[data-alarm="${CSS.escape(focused)}"] button`)?.focus({ preventScroll: true });
  byId("no-alarms").hidden = shown.length > 0;
  byId("side").hidden = shown.length === 0;
  byId("alarms-of").textContent = standing > shown.length ? `${shown.length} of ${standing} shown; all alarms` : "all alarms";
  showDurations();
}

function alarmItem(alarm) {
  const state = alarm.gone ? "cleared" : alarm.state;
  const facts = el("div", { class: "facts" },
    el("span", { class: "severity", data: { severity: alarm.severity } }, alarm.severity),
    el("strong", {}, alarm.source.replace(/^(device|station)\//, "")),
    el("span", { class: "soft" }, state),
    el("span", { class: "soft nowrap", data: { onset: alarm.onset } }));
  const item = el("li", { data: alarm.gone ? { gone: "1", alarm: alarm.id } : { alarm: alarm.id } }, facts, el("div", { class: "small" }, (alarm.gone ?? alarm).message));
  const open = alarm.state === "raised" || alarm.state === "latched";
  if (mayOperate && open && !alarm.gone) {
    item.append(el("div", { class: "actions start" }, el("button", { type: "button", onclick: (event) => acknowledge(alarm, event.currentTarget) }, "Acknowledge")));
  }
  return item;
}

async function acknowledge(alarm, button) {
  button.disabled = true;
  try {
    const response = await ask("/alarms/actions", { method: "POST", json: { alarms: [alarm.id], action: "acknowledge" } });
    const told = await response.json();
    toast(told.message, told.tone);
  } catch (error) {
    tellTrouble(error);
    button.disabled = false;
  }
}

function showDurations() {
  for (const each of byId("alarms").querySelectorAll("[data-onset]")) each.textContent = `for ${spanText((serverNow() - Number(each.dataset.onset)) / 1000)}`;
}

recall();
Object.assign(window.telltale, { alarms, order: () => order, fleet: () => fleet });
