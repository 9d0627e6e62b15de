// Accounts and tokens: what is shown once is shown in a dialog; a role is changed where it stands.

import { askJson, byId, tellTrouble, toast } from "./app.js";

function showOnce(text) {
  byId("link-text").textContent = text;
  byId("link-dialog").showModal();
  byId("link-dialog").addEventListener("close", () => location.reload(), { once: true });
}

document.addEventListener("done", ({ detail: told }) => {
  if (told.link || told.token) showOnce(told.link ?? told.token);
});

for (const button of document.querySelectorAll("[data-link-of]")) {
  button.addEventListener("click", () => askJson(`/users/${button.dataset.linkOf}/link`, { method: "POST", json: {} }).then((told) => showOnce(told.link), tellTrouble));
}

for (const select of document.querySelectorAll("[data-role-of]")) {
  const before = select.value;
  select.addEventListener("change", () => askJson(`/users/${select.dataset.roleOf}`, { method: "PATCH", json: { role: select.value } }).then((told) => toast(told.message), (error) => {
    select.value = before;
    tellTrouble(error);
  }));
}
