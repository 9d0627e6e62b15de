// Gaps: what could fill them, that begun from here, and how far it is.

import { askJson, byId, el, tellTrouble, timeText, toast } from "./app.js";

const SHOWN = 8;
const EVERY_MS = 1500;
let device = "";
let due = 0;
let atWork = false;

const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

function recount() {
  window.htmx.trigger(byId("gap-list"), "refresh");
}
function again() {
  byId("gap-list").replaceChildren(el("p", { class: "soft" }, "counting…"));
  recount();
}
byId("gaps-again").addEventListener("click", again);
byId("gap-days").addEventListener("change", again);

function commands(all) {
  return el("div", {}, el("p", { class: "small" }, "An edge elsewhere that keeps readings (keep_s in its edge.toml) sends them again with this, typed there:"), ...all.map((each) => el("p", {}, el("code", { class: "mono" }, each))));
}

byId("gap-list").addEventListener("click", async (event) => {
  const button = event.target.closest("[data-fill]");
  if (!button) return;
  device = button.dataset.fill;
  byId("fill-title").textContent = `Fill gaps of ${device}`;
  byId("fill-go").hidden = true;
  const place = byId("fill-told");
  place.replaceChildren(el("p", { class: "soft" }, "looking for files and spools…"));
  byId("fill").showModal();
  const asked = device;
  try {
    const found = await askJson("/imports/backfills", { method: "POST", json: { device, dry_run: true } });
    if (asked !== device) return;
    const { files, edges } = found;
    const rest = files.length - SHOWN;
    place.replaceChildren(
      el("p", {}, `${count(found.gaps, "gap")}, ${count(found.missing, "row")} missing.`),
      files.length
        ? el("div", {}, el("p", {}, `${count(files.length, "imported file")} of that time can be read again, for the gaps alone:`), el("ul", {}, ...files.slice(0, SHOWN).map((each) => el("li", { class: "mono" }, each.file)), ...(rest > 0 ? [el("li", {}, `and ${rest.toLocaleString("en")} more`)] : [])))
        : el("p", {}, "No imported file has rows of that time. Is there one that was never imported? Drop it above."),
      ...edges.map((each) => el("p", {}, `The spool ${each.spool} on this machine keeps ${count(each.readings, "reading")} of that time and can send them again.`)),
      found.elsewhere.length ? commands(found.elsewhere) : "",
    );
    byId("fill-go").hidden = !files.length && !edges.length;
  } catch (error) {
    place.replaceChildren(el("p", { class: "trouble" }, error.message));
  }
});

byId("fill-go").addEventListener("click", async () => {
  byId("fill-go").disabled = true;
  try {
    const { message } = await askJson("/imports/backfills", { method: "POST", json: { device, dry_run: false } });
    byId("fill").close();
    toast(message);
    show();
  } catch (error) {
    byId("fill-told").append(el("p", { class: "trouble" }, error.message));
  } finally {
    byId("fill-go").disabled = false;
  }
});

function item(each) {
  const moved = each.moved;
  const words = each.ended ? each.words : moved?.files ? `${moved.through} of ${count(moved.files, "file")} sent, ${moved.sent.toLocaleString("en")} of ${count(moved.rows, "row")}` : "reading…";
  return el("li", { data: { backfill: each.device } },
    el("div", { class: "facts" }, el("strong", {}, each.device), el("span", { class: "state", data: { tone: each.failed ? "bad" : each.ended ? "good" : "late" } }, each.failed ? "failed" : each.ended ? "done" : "at work"), el("span", { class: "soft" }, `${each.who}, ${timeText(Date.parse(each.began))}`)),
    el("span", { class: each.failed ? "error-text" : "" }, words),
    each.ended ? null : el("progress", { max: moved?.rows || 1, value: moved?.rows ? moved.sent : null, "aria-label": `backfill of ${each.device}` }),
    each.elsewhere.length ? commands(each.elsewhere) : null);
}

async function show() {
  clearTimeout(due);
  try {
    const found = await askJson("/imports/backfills");
    byId("backfills").replaceChildren(...found.map(item));
    const working = found.some((each) => !each.ended);
    if (atWork && !working) recount();
    atWork = working;
    if (working) due = setTimeout(show, EVERY_MS);
  } catch (error) {
    tellTrouble(error);
    if (atWork) due = setTimeout(show, 4 * EVERY_MS);
  }
}
show();
