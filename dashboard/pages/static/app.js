// What every page has: asking the server, telling what went wrong, times, theme, the menu of a phone.

const root = document.documentElement;
export const csrf = document.querySelector('meta[name="csrf"]')?.content ?? "";
export const role = document.body.dataset.role ?? "";
export const mayOperate = role === "operator" || role === "admin";
export const byId = (id) => document.getElementById(id);

/** An element with properties and children: `el("a", {href: "/"}, "home")`. Text is text, never markup. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") made.className = value;
    else if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Asking the server.

/** Trouble that the server told in words (RFC 9457). */
export class Trouble extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

async function troubleOf(response) {
  let detail = `the server answered ${response.status}`;
  try {
    detail = (await response.json()).detail ?? detail;
  } catch { /* no words: the number must do */ }
  if (response.status === 401) location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  return new Trouble(response.status, detail);
}

/** The response, or `Trouble`. `json` is sent as JSON; changes carry the session's token. */
export async function ask(path, { method = "GET", json, body, headers = {}, signal } = {}) {
  const sent = { "X-CSRF-Token": csrf, Accept: "application/json", ...headers };
  if (json !== undefined) {
    sent["Content-Type"] = "application/json";
    body = JSON.stringify(json);
  }
  let response;
  try {
    response = await fetch(path, { method, headers: sent, body, signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(0, "the server does not answer; try again when the connection is back");
  }
  if (!response.ok) throw await troubleOf(response);
  return response;
}

export const askJson = async (path, options) => (await ask(path, options)).json();

/** Says something in the corner. Trouble stays until it is closed. */
export function toast(text, tone = "good") {
  const box = byId("toasts");
  const close = el("button", { type: "button", class: "plain", "aria-label": "close", onclick: () => note.remove() }, "✕");
  const note = el("div", { class: "toast", data: { tone } }, el("div", { class: "grow" }, text), close);
  box.append(note);
  while (box.children.length > 5) box.firstChild.remove();
  if (tone !== "bad") setTimeout(() => note.remove(), 8000);
}

export const tellTrouble = (error) => {
  if (error.name !== "AbortError") toast(error.message, "bad");
  if (!(error instanceof Trouble) && error.name !== "AbortError") console.error(error);
};

// Times: UTC, or the station's own clock. An element <time datetime=... data-offset="minutes"> follows the choice.

export const zone = () => localStorage.getItem("zone") || "utc";
const two = (n) => String(n).padStart(2, "0");

/** "2026-11-26 06:29:34 UTC"; with the station's zone chosen and its offset known, "... 07:29:34 +01:00". */
export function timeText(ms, offset, { seconds = true, date = true } = {}) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  const local = zone() === "station" && offset !== null && offset !== undefined && offset !== "";
  const minutes = local ? Number(offset) : 0;
  const t = new Date(ms + minutes * 60000);
  const day = `${t.getUTCFullYear()}-${two(t.getUTCMonth() + 1)}-${two(t.getUTCDate())}`;
  const clock = `${two(t.getUTCHours())}:${two(t.getUTCMinutes())}${seconds ? `:${two(t.getUTCSeconds())}` : ""}`;
  const sign = minutes < 0 ? "−" : "+";
  const name = local ? `${sign}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}` : "UTC";
  return `${date ? `${day} ` : ""}${clock} ${name}`;
}

/** The server's clock, so that ages are right on a machine whose clock is not. */
export const serverNow = () => Date.now() + (window.telltale?.line.skew ?? 0);

export function showTimes(within = document) {
  for (const each of within.querySelectorAll("time[datetime]")) {
    const ms = Date.parse(each.dateTime);
    if (each.dataset.since !== undefined) each.textContent = spanText((serverNow() - ms) / 1000);
    else each.textContent = timeText(ms, each.dataset.offset);
    if (each.dataset.since !== undefined) each.title = timeText(ms, each.dataset.offset);
  }
}

/** "3 s", "4 min", "2 h 05 min", "3 d 4 h". */
export function spanText(s) {
  if (s === null || s === undefined || !Number.isFinite(s)) return "–";
  s = Math.max(0, s);
  if (s < 1) return "< 1 s";
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${two(Math.floor(s / 60) % 60)} min`;
  if (s < 86400 * 60) return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
  return `${(s / 86400 / 365.25).toFixed(1)} years`;
}

/** A measured value, six figures at most. */
export function valueText(v) {
  if (v === null || v === undefined || Number.isNaN(v)) return "–";
  const size = Math.abs(v);
  if (size !== 0 && (size < 0.001 || size >= 1e6)) return v.toExponential(3);
  return String(Number(v.toPrecision(size >= 100 ? 6 : 5)));
}

/** What the numbers of states stand for. */
export const STATES = ["never heard", "online", "late", "silent"];

// The frame of the page.

const zoneButton = byId("zone");
function showZone() {
  if (zoneButton) zoneButton.textContent = zone() === "utc" ? "Times: UTC" : "Times: station";
  showTimes();
}
zoneButton?.addEventListener("click", () => {
  localStorage.setItem("zone", zone() === "utc" ? "station" : "utc");
  showZone();
  document.dispatchEvent(new CustomEvent("zone"));
});

const themeButton = byId("theme");
function showTheme() {
  if (themeButton) themeButton.textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
}
themeButton?.addEventListener("click", () => {
  localStorage.setItem("theme", root.dataset.theme === "dark" ? "light" : "dark");
  root.dataset.theme = localStorage.getItem("theme");
  document.dispatchEvent(new CustomEvent("theme"));
});
document.addEventListener("theme", showTheme);

byId("menu")?.addEventListener("click", (event) => {
  const top = document.querySelector(".top");
  const open = top.toggleAttribute("data-open");
  event.currentTarget.setAttribute("aria-expanded", String(open));
});

byId("sign-out")?.addEventListener("click", () => {
  ask("/logout", { method: "POST" }).then(() => { location.href = "/login"; }, tellTrouble);
});

// Forms of our own: <form data-ask="POST /path"> sends its fields as JSON; <button data-ask=...> just asks.

function fieldsOf(form) {
  const told = {};
  for (const [name, value] of new FormData(form)) {
    const many = form.querySelector(`[name="${CSS.escape(name)}"]`)?.dataset.many !== undefined;
    if (form.elements[name]?.type === "number") told[name] = value === "" ? null : Number(value);
    else if (many) (told[name] ??= []).push(value);
    else told[name] = value;
  }
  for (const box of form.querySelectorAll('input[type="checkbox"]:not([data-many])')) told[box.name] = box.checked;
  return told;
}

async function sendForm(form, submitter) {
  const [method, path] = (submitter?.dataset.ask ?? form.dataset.ask).split(" ");
  const problem = form.querySelector("[data-problem]");
  const buttons = form.querySelectorAll("button");
  buttons.forEach((each) => { each.disabled = true; });
  try {
    const response = await ask(path, { method, json: { ...fieldsOf(form), ...(submitter?.name ? { [submitter.name]: submitter.value } : {}) } });
    const told = response.status === 204 ? {} : await response.json();
    if (problem) problem.hidden = true;
    done(form, told);
  } catch (error) {
    if (problem) {
      problem.textContent = error.message;
      problem.hidden = false;
    } else tellTrouble(error);
  } finally {
    buttons.forEach((each) => { each.disabled = false; });
  }
}

function done(source, told) {
  if (told.message) toast(told.message, told.tone ?? "good");
  if (told.go) location.href = told.go;
  source.dispatchEvent(new CustomEvent("done", { bubbles: true, detail: told }));
  source.closest("dialog")?.close();
  const refresh = source.dataset.refresh;
  if (refresh) for (const each of document.querySelectorAll(refresh)) window.htmx?.trigger(each, "refresh");
}

document.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-ask]");
  if (!form) return;
  event.preventDefault();
  const confirmation = event.submitter?.dataset.confirm ?? form.dataset.confirm;
  if (confirmation && !window.confirm(confirmation)) return;
  sendForm(form, event.submitter);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-ask]");
  if (button && !button.form) {
    if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) return;
    const [method, path] = button.dataset.ask.split(" ");
    button.disabled = true;
    ask(path, { method, json: JSON.parse(button.dataset.json ?? "{}") })
      .then(async (response) => done(button, response.status === 204 ? {} : await response.json()))
      .catch(tellTrouble)
      .finally(() => { button.disabled = false; });
  }
  const opener = event.target.closest("[data-open-dialog]");
  if (opener) byId(opener.dataset.openDialog).showModal();
  const closer = event.target.closest("[data-close-dialog]");
  if (closer) closer.closest("dialog").close();
  const copier = event.target.closest("[data-copy]");
  if (copier) navigator.clipboard?.writeText(byId(copier.dataset.copy).textContent).then(() => toast("copied"), () => toast("the browser does not allow copying; select the text", "bad"));
});

// htmx: the session's token goes with every request; problems are told in words.

document.addEventListener("htmx:configRequest", (event) => { event.detail.headers["X-CSRF-Token"] = csrf; });
document.addEventListener("htmx:afterSettle", (event) => showTimes(event.target));
document.addEventListener("htmx:responseError", (event) => {
  let detail = `the server answered ${event.detail.xhr.status}`;
  try { detail = JSON.parse(event.detail.xhr.responseText).detail ?? detail; } catch { /* no words */ }
  if (event.detail.xhr.status === 401) location.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  else missed(event.detail.target, detail);
});
document.addEventListener("htmx:sendError", (event) => missed(event.detail.target, "the server does not answer; what you see may be old"));

/** A part of the page could not be had: said in its place, above what was there, until it comes. */
function missed(part, text) {
  part.querySelector(":scope > .missed")?.remove();
  if (/…$/.test(part.textContent.trim())) part.replaceChildren();
  part.prepend(el("p", { class: "trouble missed", role: "alert" }, text));
}

/** What scrolls sideways can be reached, and scrolled, with the keyboard. */
export function reachable(within = document) {
  for (const each of within.querySelectorAll(".wide")) {
    if (each.scrollWidth > each.clientWidth) each.tabIndex = 0;
    else each.removeAttribute("tabindex");
  }
}
window.addEventListener("resize", () => reachable());
new MutationObserver(() => requestAnimationFrame(() => reachable())).observe(byId("main"), { childList: true, subtree: true });

showZone();
showTheme();
reachable();
setInterval(() => { for (const each of document.querySelectorAll("time[data-since]")) each.textContent = spanText((serverNow() - Date.parse(each.dateTime)) / 1000); }, 1000);
