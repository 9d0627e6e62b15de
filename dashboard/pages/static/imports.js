// Uploads with their progress, answers to what files ask, and the list anew whenever a file has moved on.

import { askJson, byId, csrf, el, toast } from "./app.js";
import { live } from "./live.js";

const AT_ONCE = 2;
let due = 0;

function refresh(after = 150) {
  clearTimeout(due);
  due = setTimeout(() => { if (byId("imports")) window.htmx.trigger(byId("imports"), "refresh"); }, after);
}

live.addEventListener("message", ({ detail: told }) => {
  if (told.t !== "e" || !told.imports?.length) return;
  refresh();
  setTimeout(refresh, 1500); // the sink brings it into the database a moment later
  for (const file of told.imports) {
    const row = document.querySelector(`#uploads [data-name="${CSS.escape(file.name)}"] .told`);
    if (row) row.textContent = file.state;
  }
});
live.addEventListener("back", () => refresh());

// Uploads: two at a time, each with its progress; the file is the request's body.

const queue = [];
let running = 0;

function add(files) {
  for (const file of files) {
    const bar = el("progress", { max: 1, value: 0, "aria-label": `upload of ${file.name}` });
    const told = el("span", { class: "told soft" }, "waits");
    byId("uploads").prepend(el("li", { data: { name: file.name } }, el("div", { class: "facts" }, el("strong", {}, file.name), told), bar));
    queue.push({ file, bar, told });
  }
  next();
}

function next() {
  while (running < AT_ONCE && queue.length) {
    running += 1;
    const item = queue.shift();
    upload(item).catch((error) => {
      item.told.textContent = error.message;
      item.told.className = "told error-text";
      toast(`${item.file.name}: ${error.message}`, "bad");
    }).finally(() => {
      running -= 1;
      next();
    });
  }
}

function upload({ file, bar, told }) {
  const address = new URLSearchParams({ name: file.name });
  const said = { device: "said-device", utc_offset_minutes: "said-offset", stamp: "said-stamp", date_order: "said-order" };
  for (const [name, id] of Object.entries(said)) if (byId(id).value) address.set(name, byId(id).value);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/v1/imports?${address}`);
    request.setRequestHeader("X-CSRF-Token", csrf);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => {
      bar.value = event.total ? event.loaded / event.total : 0;
      told.textContent = `${Math.round(100 * bar.value)} %`;
    });
    request.addEventListener("load", () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* no words */ }
      if (request.status >= 300) return reject(new Error(answer.detail ?? `the server answered ${request.status}`));
      bar.value = 1;
      told.textContent = "uploaded; being read";
      refresh(1000);
      resolve(answer);
    });
    request.addEventListener("error", () => reject(new Error("the connection broke; nothing was kept: upload it again")));
    request.send(file);
  });
}

const drop = byId("drop");
if (drop) {
  for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.toggleAttribute("data-over", true); });
  for (const name of ["dragleave", "drop"]) drop.addEventListener(name, (event) => { event.preventDefault(); drop.toggleAttribute("data-over", false); });
  drop.addEventListener("drop", (event) => add(event.dataTransfer.files));
  byId("files").addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
}

byId("answers")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const said = {};
  for (const name of ["device", "stamp", "date_order", "password"]) if (form.elements[name].value) said[name] = form.elements[name].value;
  for (const name of ["utc_offset_minutes", "interval_s"]) if (form.elements[name].value) said[name] = Number(form.elements[name].value);
  if (form.elements.again.checked) said.again = true;
  try {
    await askJson(`/api/v1/imports/${form.dataset.sha}/answers`, { method: "POST", json: said });
    byId("answer-problem").hidden = true;
    toast("answered; the file is tried again");
    refresh(1500);
  } catch (error) {
    byId("answer-problem").textContent = error.message;
    byId("answer-problem").hidden = false;
  }
});
