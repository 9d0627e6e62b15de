// A one-time link: its secret stands behind the #, which browsers send to nobody; it goes into the body of a request.

import { askJson, byId } from "./app.js";

const secret = location.hash.slice(1);
const form = byId("welcome-form");

function trouble(text) {
  byId("welcome-problem").textContent = text;
  byId("welcome-problem").hidden = false;
  byId("welcome-wait").hidden = true;
}

async function begin() {
  if (!secret) return trouble("This page needs a one-time link. Ask an administrator, or: telltale users first-link");
  const told = await askJson("/welcome/look", { method: "POST", json: { secret } });
  byId("welcome-wait").hidden = true;
  byId("welcome-about").textContent = told.name
    ? `This is for the account “${told.name}”.`
    : "This makes the first administrator. Choose a name, too.";
  form.elements.name.value = told.name ?? "";
  form.elements.name.readOnly = Boolean(told.name);
  form.hidden = false;
  form.elements[told.name ? "password" : "name"].focus();
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { name, password, again } = form.elements;
  if (password.value !== again.value) return trouble("The two passwords differ.");
  try {
    await askJson("/welcome", { method: "POST", json: { secret, name: name.value, password: password.value } });
    history.replaceState(null, "", "/welcome");
    location.href = "/status";
  } catch (error) {
    trouble(error.message);
  }
});

begin().catch((error) => trouble(error.message));
