// Stations and devices: how they stand, kept true while the page is open.

import { STATES, el, showTimes } from "./app.js";
import { live } from "./live.js";

const nodes = [...document.querySelectorAll("[data-stands]")];
let fleet = null;
let places = new Map(); // device to its number

live.addEventListener("message", ({ detail: told }) => {
  if (told.t === "s" && told.sensors) {
    fleet = told;
    places = new Map(fleet.devices.id.map((id, d) => [id, d]));
  } else if (told.t === "d" && fleet) {
    told.i.forEach((i, n) => { fleet.sensors.s[i] = told.s[n]; });
    Object.assign(fleet.devices, told.devices);
  } else return;
  paint();
});

function paint() {
  const { device, active, s } = fleet.sensors;
  const [all, online] = [0, 0].map(() => new Array(fleet.devices.id.length).fill(0));
  device.forEach((d, i) => {
    all[d] += active[i];
    online[d] += active[i] && s[i] === 1 ? 1 : 0;
  });
  for (const node of nodes) {
    const d = places.get(node.dataset.stands);
    if (d !== undefined) SHOW[node.dataset.figure](node, d, `${online[d]} of ${all[d]}`);
  }
}

const ago = (column) => (node, d) => {
  const ms = fleet.devices[column][d];
  if (node.dataset.ms === String(ms)) return;
  node.dataset.ms = String(ms);
  node.replaceChildren(ms ? el("time", { class: "nowrap", datetime: new Date(ms).toISOString(), "data-since": true }) : el("span", { class: "soft" }, "never"));
  showTimes(node);
};

const SHOW = {
  state: (node, d) => {
    const state = fleet.devices.s[d];
    if (node.dataset.state === String(state)) return;
    node.dataset.state = String(state);
    node.textContent = STATES[state];
  },
  online: (node, _, text) => { if (node.textContent !== text) node.textContent = text; },
  heard: ago("h"),
  beat: ago("b"),
};
