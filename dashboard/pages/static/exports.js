// Exports: the form as a request of the API, and the jobs as they go on.

import { askJson, byId, el, spanText, tellTrouble, timeText, toast } from "./app.js";

const form = byId("export");
const stations = byId("told") ? JSON.parse(byId("told").textContent) : {};
let due = 0;

function devices() {
  const station = stations[form.elements.station.value] ?? {};
  form.elements.device.replaceChildren(el("option", { value: "" }, "all devices of the station"), ...Object.keys(station).map((each) => el("option", {}, each)));
  sensors();
}

function sensors() {
  const station = stations[form.elements.station.value] ?? {};
  const chosen = form.elements.device.value ? [form.elements.device.value] : Object.keys(station);
  form.elements.sensors.replaceChildren(...chosen.flatMap((device) => station[device].map((channel) => el("option", { value: `${device}/${channel}` }, chosen.length > 1 ? `${device}/${channel}` : channel))));
}

const checked = (name) => [...form.querySelectorAll(`[name="${name}"]:checked`)].map((each) => each.value);

function request() {
  const { format, station, device, interval, values, begin, end, zone, stamp, missing, decimal, separator } = form.elements;
  const asked = { format: format.value, interval: interval.value, values: values.value, zone: zone.value || "station", stamp: stamp.value, missing: missing.value, decimal: decimal.value, quality: checked("quality").map(Number) };
  if (device.value) asked.device = device.value;
  else asked.station = station.value;
  const chosen = [...form.elements.sensors.selectedOptions].map((each) => each.value);
  if (chosen.length) asked.sensors = chosen;
  for (const name of ["statistics", "figures"]) if (checked(name).length) asked[name] = checked(name);
  const categories = [...form.querySelectorAll('[name="category"]')];
  asked.include_flags = categories.filter((each) => each.dataset.default === "out" && !each.checked).map((each) => each.value);
  asked.exclude_flags = categories.filter((each) => each.dataset.default === "in" && each.checked).map((each) => each.value);
  if (begin.value) asked.begin = `${begin.value}Z`;
  if (end.value) asked.end = `${end.value}Z`;
  if (separator.value) asked.separator = separator.value;
  return asked;
}

async function start(asked) {
  const job = await askJson("/api/v1/exports", { method: "POST", json: asked });
  toast(`export ${job.export_id} waits`);
  show();
}

if (form) {
  devices();
  form.elements.station.addEventListener("change", devices);
  form.elements.device.addEventListener("change", sensors);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    byId("export-problem").hidden = true;
    try {
      await start(request());
    } catch (error) {
      byId("export-problem").textContent = error.message;
      byId("export-problem").hidden = false;
    }
  });
}

const TONES = { done: "good", failed: "bad", running: "late", queued: "late" };

function row(job) {
  const { request: asked } = job;
  const actions = el("span", { class: "actions start" });
  if (job.state === "done") for (const file of job.summary?.files ?? []) actions.append(el("a", { class: "button", href: `/api/v1/exports/${job.export_id}/file?${new URLSearchParams({ name: file.name })}`, download: file.name }, `Download ${file.name}`));
  const { person, any } = byId("jobs").dataset;
  if (job.state === "queued" || job.state === "running") {
    // As the API decides: a token of somebody is somebody.
    if (any || job.author.replace(/^token \S+ of /, "") === person) actions.append(el("button", { type: "button", class: "danger", onclick: () => askJson(`/api/v1/exports/${job.export_id}`, { method: "DELETE" }).then(show, tellTrouble) }, "Cancel"));
  } else actions.append(el("button", { type: "button", onclick: () => start(asked).catch(tellTrouble) }, "Repeat"));
  const period = asked.begin || asked.end ? `${asked.begin ? timeText(Date.parse(asked.begin), null, { seconds: false }) : "first reading"} to ${asked.end ? timeText(Date.parse(asked.end), null, { seconds: false }) : "last reading"}` : "all readings";
  const state = el("td", {}, el("span", { class: "state", data: { tone: TONES[job.state] ?? "" } }, job.state));
  if (job.state === "running") state.append(el("br"), el("progress", { max: 1, value: job.share, "aria-label": `progress of export ${job.export_id}` }), el("span", { class: "small soft" }, `${Math.round(100 * job.share)} %, ${job.rows.toLocaleString("en")} rows${job.left_s === null ? "" : `, ${spanText(job.left_s)} left`}`));
  if (job.reason) state.append(el("br"), el("span", { class: "small" }, job.reason));
  return el("tr", { data: { job: job.export_id } }, el("th", { scope: "row" }, `${job.export_id}`), el("td", {}, `${asked.format}, ${asked.device ?? asked.station ?? asked.sensors?.[0]}`, el("br"), el("span", { class: "small soft" }, `${asked.interval === "logged" ? "as logged" : asked.interval}, ${asked.values}, ${period}`)), state, el("td", { class: "num", data: { label: "rows" } }, job.rows.toLocaleString("en")), el("td", {}, timeText(Date.parse(job.created)), el("br"), el("span", { class: "small soft" }, job.author)), el("td", {}, actions));
}

async function show() {
  clearTimeout(due);
  try {
    const found = await askJson("/api/v1/exports?limit=50");
    const rows = found.items.map(row);
    const focused = document.activeElement?.closest("#jobs [data-job]");
    const [job, words] = [focused?.dataset.job, document.activeElement?.textContent];
    byId("jobs").replaceChildren(rows.length ? el("div", { class: "wide" }, el("table", { class: "cards-phone" }, el("thead", {}, el("tr", {}, ...["Number", "What", "State", "Rows", "Started", "Actions"].map((each) => el("th", { scope: "col", class: each === "Rows" ? "num" : "" }, each)))), el("tbody", {}, ...rows))) : el("p", { class: "empty" }, el("strong", {}, "No export yet."), "What you start above comes here; files are kept for some days."));
    if (focused) [...byId("jobs").querySelectorAll(`[data-job="${job}"] :is(a, button)`)].find((each) => each.textContent === words)?.focus({ preventScroll: true });
    due = setTimeout(show, found.items.some((job) => job.state === "running" || job.state === "queued") ? 1000 : 15000);
  } catch (error) {
    byId("jobs").replaceChildren(el("p", { class: "trouble" }, error.message));
    due = setTimeout(show, 10000);
  }
}
show();
