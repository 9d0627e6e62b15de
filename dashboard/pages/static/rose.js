// A wind rose: how often the wind comes from where, by classes of speed. An image with words, and a table for readers.

import { el } from "./app.js";

const NAMES = ["N", "NNE", "NE", "ENE", "E", "ESE", "SE", "SSE", "S", "SSW", "SW", "WSW", "W", "WNW", "NW", "NNW"];

function svg(tag, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const at = (r, degrees) => [170 + r * Math.sin((degrees * Math.PI) / 180), 170 - r * Math.cos((degrees * Math.PI) / 180)].map((x) => x.toFixed(1));

function wedge(inner, outer, middle, width) {
  const [a, b] = [middle - width / 2, middle + width / 2];
  return `M${at(inner, a)} L${at(outer, a)} A${outer.toFixed(1)} ${outer.toFixed(1)} 0 0 1 ${at(outer, b)} L${at(inner, b)} A${inner.toFixed(1)} ${inner.toFixed(1)} 0 0 0 ${at(inner, a)}Z`;
}

export function rose(told) {
  if (!told.total) return el("p", { class: "empty" }, el("strong", {}, "Nothing to draw."), "No good readings of direction and speed at the same time in this period.");
  const sums = told.counts.map((each) => each.reduce((a, b) => a + b, 0));
  const most = Math.max(...sums);
  const top = NAMES[sums.indexOf(most)];
  const image = svg("svg", { viewBox: "0 0 340 340", width: 340, role: "img", "aria-label": `Wind rose: most often from ${top}, ${((100 * most) / told.total).toFixed(1)} percent of the time` });
  for (const share of [0.25, 0.5, 0.75, 1]) {
    image.append(svg("circle", { cx: 170, cy: 170, r: 145 * share, class: "rose-grid" }), svg("text", { x: 173, y: 168 - 145 * share }, `${((100 * most * share) / told.total).toFixed(0)} %`));
  }
  told.counts.forEach((classes, sector) => {
    let inner = 0;
    classes.forEach((count, n) => {
      if (!count) return;
      const outer = inner + (145 * count) / most;
      image.append(svg("path", { d: wedge(inner, outer, sector * 22.5, 18), class: `rose-${n}` }));
      inner = outer;
    });
  });
  for (const [n, name] of [[0, "N"], [4, "E"], [8, "S"], [12, "W"]]) {
    const [x, y] = at(160, n * 22.5);
    image.append(svg("text", { x, y: Number(y) + 4, "text-anchor": "middle" }, name));
  }
  const labels = [`below ${told.edges[0]}`, ...told.edges.slice(1).map((edge, n) => `${told.edges[n]} to ${edge}`), `${told.edges.at(-1)} and more`];
  const rows = NAMES.map((name, n) => el("tr", {}, el("th", { scope: "row" }, name), ...told.counts[n].map((count) => el("td", { class: "num" }, ((100 * count) / told.total).toFixed(1)))));
  return el("div", {},
    el("p", { class: "small soft" }, `${told.direction} and ${told.speed}: ${told.total.toLocaleString("en")} readings, mean ${told.mean.toFixed(2)} m/s`),
    image,
    el("p", { class: "legend" }, ...labels.map((label, n) => el("span", {}, svgKey(n), ` ${label} m/s`))),
    el("details", {}, el("summary", {}, "As a table, in percent"), el("div", { class: "wide" }, el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "from"), ...labels.map((label) => el("th", { scope: "col", class: "num" }, label)))), el("tbody", {}, ...rows)))));
}

const svgKey = (n) => svg("svg", { width: 12, height: 12, "aria-hidden": "true" }, svg("rect", { width: 12, height: 12, class: `rose-${n}` }));
