// The live line: one socket, opened again when it breaks, its state shown in the header. Pages listen to `live`.

import { byId, role, tellTrouble, timeText } from "./app.js";

const QUIET_MS_MAX = 12000; // the server speaks at least every five seconds
const AGAIN_MS = [500, 1000, 2000, 4000, 8000];

/** Dispatches "message" (detail: the message), "lost" and "back". */
export const live = new EventTarget();
export const line = { last: 0, seq: -1, skew: 0, frames: 0, isUp: false };

let socket = null;
let tries = 0;
let watch = 0;

function show(state, text) {
  const dot = byId("line");
  if (dot) {
    dot.dataset.line = state;
    dot.textContent = text;
  }
  const banner = byId("lost");
  if (banner) {
    banner.hidden = state !== "lost";
    if (state === "lost") banner.textContent = line.last
      ? `The connection to the server is lost. What you see is from ${timeText(line.last)}. Trying again…`
      : "The server cannot be reached. Trying again…";
  }
}

function open() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const what = document.body.dataset.live;
  const mine = new WebSocket(`${scheme}://${location.host}/live?what=${what}`);
  socket = mine;
  mine.addEventListener("message", (event) => {
    const told = JSON.parse(event.data);
    heard();
    line.frames += 1;
    line.last = told.now ?? Date.now();
    if (told.t === "s") {
      line.seq = told.seq;
      if (tries > 0 || !line.isUp) live.dispatchEvent(new Event("back"));
      tries = 0;
      line.isUp = true;
    } else if (told.seq !== undefined) {
      if (told.seq <= line.seq) return; // older than the picture that we have
      line.seq = told.seq;
    }
    if (told.now) line.skew = told.now - Date.now();
    show("up", "live");
    if (told.tiles) trouble(told.tiles.trouble || (told.tiles.health?.kafka?.state === "away" ? "Kafka does not answer" : ""));
    count(told);
    live.dispatchEvent(new CustomEvent("message", { detail: told }));
  });
  mine.addEventListener("close", (event) => {
    if (socket !== mine) return;
    if (event.code === 4401) {
      location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
      return;
    }
    lost();
  });
}

/** The server is there, and does not hear the pipeline. */
function trouble(words) {
  const banner = byId("deaf");
  if (!banner) return;
  banner.hidden = !words;
  if (words) banner.textContent = `The dashboard does not hear the pipeline (${words}). What you see may be old. It tries again by itself.`;
}

function heard() {
  clearTimeout(watch);
  watch = setTimeout(() => { socket?.close(); lost(); }, QUIET_MS_MAX);
}

async function lost() {
  socket = null;
  clearTimeout(watch);
  if (line.isUp) live.dispatchEvent(new Event("lost"));
  line.isUp = false;
  show("lost", "connection lost");
  const wait = AGAIN_MS[Math.min(tries, AGAIN_MS.length - 1)] * (0.75 + Math.random() / 2);
  tries += 1;
  setTimeout(async () => {
    if (tries > 1) {
      try { // a socket that is refused does not say why
        const response = await fetch("/session", { credentials: "same-origin" });
        if (response.status === 401) {
          location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
          return;
        }
      } catch { /* still away */ }
    }
    open();
  }, wait);
}

/** The number of alarms that nobody has acknowledged, in the menu. */
function count(told) {
  const alarms = told.tiles?.alarms;
  const badge = byId("alarm-count");
  if (!alarms || !badge) return;
  badge.hidden = alarms.unacknowledged === 0;
  badge.textContent = alarms.unacknowledged > 999 ? "999+" : String(alarms.unacknowledged);
  badge.setAttribute("aria-label", `${alarms.unacknowledged} not acknowledged`);
}

export function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

if (role) {
  show("wait", "connecting");
  // Not before the page's own script has run, which would miss the first picture; scripts have run when this is told.
  addEventListener("DOMContentLoaded", () => {
    try { open(); } catch (error) { tellTrouble(error); }
  });
}
window.telltale = { line };
