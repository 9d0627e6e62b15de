// Alarms: which are selected, what is done about them, and the list anew whenever an alarm has moved.

import { ask, byId, spanText, tellTrouble, toast } from "./app.js";
import { live } from "./live.js";

const picked = new Set();
const list = byId("alarms");
const one = byId("one");
const WORDS = { acknowledge: "Acknowledge", shelve: "Shelve", unshelve: "Take off the shelf", comment: "Comment" };
let acting = null;

let due = 0;
function refresh() {
  clearTimeout(due);
  due = setTimeout(() => {
    if (list) window.htmx.trigger(list, "refresh");
    if (one) window.htmx.trigger(one, "refresh");
  }, 150);
}

live.addEventListener("message", ({ detail: told }) => {
  if (told.t === "e" && told.alarms) {
    if (!one || told.alarms.some((alarm) => alarm.id === one.dataset.alarm)) refresh();
    // The steps come through the sink a moment later than the event.
    if (one) setTimeout(refresh, 1500);
  }
});
live.addEventListener("back", refresh);

function showPicked() {
  const status = byId("selected");
  if (!status) return;
  const there = new Set([...document.querySelectorAll("[data-pick]")].map((box) => box.dataset.pick));
  for (const id of picked) if (!there.has(id)) picked.delete(id);
  for (const box of document.querySelectorAll("[data-pick]")) {
    box.checked = picked.has(box.dataset.pick);
    box.closest("tr").toggleAttribute("data-selected", box.checked);
  }
  status.textContent = picked.size ? `${picked.size} selected` : "none selected";
  for (const button of status.parentElement.querySelectorAll("[data-act]")) button.disabled = picked.size === 0;
  const all = byId("all");
  if (all) {
    all.checked = picked.size > 0 && picked.size === there.size;
    all.indeterminate = picked.size > 0 && picked.size < there.size;
  }
}

function showLasted() {
  for (const each of document.querySelectorAll("[data-lasted]")) each.textContent = spanText(Number(each.dataset.lasted));
}

document.addEventListener("change", (event) => {
  if (event.target.dataset.pick) {
    if (event.target.checked) picked.add(event.target.dataset.pick);
    else picked.delete(event.target.dataset.pick);
    showPicked();
  }
  if (event.target.id === "all") {
    for (const box of document.querySelectorAll("[data-pick]:not(:disabled)")) {
      if (event.target.checked) picked.add(box.dataset.pick);
      else picked.delete(box.dataset.pick);
    }
    showPicked();
  }
});
/** How many there are on each tab, as the list has brought it. */
function showCounts() {
  for (const each of document.querySelectorAll("[data-count]")) each.textContent = byId("counts")?.dataset[each.dataset.count] ?? each.textContent;
}

document.addEventListener("htmx:afterSettle", () => { showPicked(); showLasted(); showCounts(); });

/** Which alarm it is, as the list has it: source and rule. */
function named(id) {
  const cell = document.querySelector(`tr[data-alarm="${CSS.escape(id)}"] th`);
  return cell ? [...cell.querySelectorAll("a, span")].map((each) => each.textContent).join(": ") : "This alarm.";
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  const ids = button.dataset.of ? [button.dataset.of] : [...picked];
  acting = { action: button.dataset.act, ids };
  byId("act-title").textContent = WORDS[acting.action];
  byId("act-go").textContent = WORDS[acting.action];
  byId("act-about").textContent = ids.length === 1 ? named(ids[0]) : `${ids.length} alarms.`;
  byId("act-length").hidden = acting.action !== "shelve";
  byId("act-problem").hidden = true;
  byId("act-form").elements.reason.value = "";
  byId("act").showModal();
  byId("act-form").elements.reason.focus();
});

byId("act-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { reason, minutes, until } = event.target.elements;
  const told = { alarms: acting.ids, action: acting.action, reason: reason.value };
  if (acting.action === "shelve") {
    if (minutes.value) told.minutes = Number(minutes.value);
    else if (until.value) told.until = `${until.value}:00Z`;
  }
  byId("act-go").disabled = true;
  try {
    const answer = await (await ask("/alarms/actions", { method: "POST", json: told })).json();
    byId("act").close();
    toast(answer.message, answer.tone);
    picked.clear();
    refresh();
  } catch (error) {
    byId("act-problem").textContent = error.message;
    byId("act-problem").hidden = false;
    if (error.status === undefined) tellTrouble(error);
  } finally {
    byId("act-go").disabled = false;
  }
});
byId("act-form").elements.until?.addEventListener("input", () => { byId("act-form").querySelector('input[name="minutes"][value=""]').checked = true; });

showPicked();
showLasted();
