// Keeps the overview true: the receiver sends its sections when they change, and only what is new
// is put in. What has the focus, and how far a table is scrolled, stays.
"use strict";

const live = document.getElementById("live");

function put(fresh) {
  const old = document.getElementById(fresh.id);
  if (old === null || old.outerHTML === fresh.outerHTML) return;
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const region = old.querySelector(".scroll");
  old.replaceWith(fresh);
  const moved = fresh.querySelector(".scroll");
  if (region !== null && moved !== null) moved.scrollLeft = region.scrollLeft;
  if (focused === null) return;
  const again = focused.id ? document.getElementById(focused.id) : moved;
  if (again !== null) again.focus({ preventScroll: true });
}

function show(event) {
  const page = document.createElement("template");
  page.innerHTML = event.data;
  const fresh = [...page.content.querySelectorAll("section[id]")];
  const main = document.querySelector("main");
  const known = [...main.querySelectorAll("section[id]")].map((section) => section.id);
  if (known.join() === fresh.map((section) => section.id).join()) fresh.forEach(put);
  else main.replaceChildren(main.querySelector("h1"), ...fresh);
}

function say(text, state) {
  if (live.textContent !== text) live.textContent = text;
  live.dataset.state = state;
}

const source = new EventSource("/live");
source.addEventListener("page", show);
source.addEventListener("open", () => say("live", "live"));
source.addEventListener("error", () => say("connection lost, trying again", "lost"));
