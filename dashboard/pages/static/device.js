// A device: how deep its spool was, and the gaps of the year that the calendar shows.

import { askJson, byId, el, spanText, tellTrouble, timeText } from "./app.js";

const place = byId("depth");
if (place) {
  const uPlot = (await import("/static/lib/uplot.js")).default;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const points = JSON.parse(place.dataset.depths);
  const draw = () => {
    place.replaceChildren();
    const common = { stroke: css("--soft"), grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid"), width: 1 } };
    new uPlot({ width: place.clientWidth, height: 150, legend: { show: false }, cursor: { show: false }, tzDate: (s) => uPlot.tzDate(new Date(s * 1000), "Etc/UTC"), axes: [{ ...common, space: 70, values: [[3600, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1], [60, "{HH}:{mm}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1], [1, "{HH}:{mm}:{ss}", "\n{YYYY}-{MM}-{DD}", null, "\n{MM}-{DD}", null, null, null, 1]] }, { ...common, size: 60 }], scales: { y: { range: (_, low, high) => [0, Math.max(1, high)] } }, series: [{}, { stroke: css("--series-1"), fill: `${css("--series-1")}22`, width: 1.2, points: { show: false } }] }, [points.map((each) => each[0]), points.map((each) => each[1])], place);
  };
  draw();
  document.addEventListener("theme", draw);
}

const gaps = byId("gaps");
gaps?.addEventListener("toggle", async () => {
  if (!gaps.open) return;
  const year = Number(byId("calendar-form").elements.year.value);
  const asked = new URLSearchParams({ from: `${year}-01-01T00:00:00Z`, to: `${year + 1}-01-01T00:00:00Z`, limit: 100 });
  const channel = byId("calendar-form").elements.channel.value;
  if (channel) asked.set("sensor", `${gaps.dataset.device}/${channel}`);
  else asked.set("device", gaps.dataset.device);
  const list = byId("gap-list");
  list.replaceChildren(el("p", { class: "soft" }, "looking…"));
  try {
    const found = await askJson(`/api/v1/gaps?${asked}`);
    const rows = found.items.map((gap) => el("tr", {}, el("th", { scope: "row" }, gap.sensor), el("td", {}, timeText(Date.parse(gap.begins))), el("td", {}, gap.is_open ? "now" : timeText(Date.parse(gap.ends))), el("td", { class: "num" }, spanText((Date.parse(gap.ends) - Date.parse(gap.begins)) / 1000)), el("td", { class: "num" }, gap.missing.toLocaleString("en"))));
    list.replaceChildren(rows.length ? el("div", { class: "wide" }, el("table", { class: "cards-phone" }, el("thead", {}, el("tr", {}, ...["Sensor", "From", "To", "Length", "Missing"].map((each, n) => el("th", { scope: "col", class: n > 2 ? "num" : "" }, each)))), el("tbody", {}, ...rows))) : el("p", { class: "empty" }, el("strong", {}, `No gap in ${year}.`)), found.next ? el("p", { class: "small soft" }, "The first 100 are shown; telltale imports gaps shows all.") : "");
  } catch (error) {
    list.replaceChildren(el("p", { class: "trouble" }, error.message));
    tellTrouble(error);
  }
});
