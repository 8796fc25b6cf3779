"use strict";
// Everything works without this script; it adds live rows, local times and keys.

const REFRESH_MS = 13000;

function showLocalTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    const two = (number) => String(number).padStart(2, "0");
    time.title = `${time.textContent} UTC`;
    time.textContent =
      `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
      `${two(date.getHours())}:${two(date.getMinutes())}`;
  }
}

function refresh() {
  const list = document.querySelector("[data-live]");
  if (list && !document.hidden) {
    htmx.trigger(list, "refresh");
  }
}

let selectedId = "";

function selectRow(link) {
  document.querySelector("tr.selected")?.classList.remove("selected");
  if (link) {
    link.closest("tr")?.classList.add("selected");
    link.focus();
    link.scrollIntoView({ block: "nearest" });
    selectedId = link.id;
  }
}

function moveSelection(step) {
  const links = [...document.querySelectorAll("a.row")];
  const current = links.indexOf(document.activeElement);
  selectRow(links[Math.min(Math.max(current + step, 0), links.length - 1)]);
}

function follow(selector) {
  const link = document.querySelector(selector);
  if (link) {
    location.assign(link.href);
  }
}

const KEYS = {
  "/": () => document.querySelector("#search, #filters input:not([type=hidden])")?.focus(),
  "?": () => document.getElementById("keys").showModal(),
  j: () => moveSelection(1),
  k: () => moveSelection(-1),
  n: () => follow("a[rel=next]"),
  p: () => follow("a[rel=prev]"),
  g: () => location.assign("/"),
  u: () => location.assign("/jobs?state=running"),
};

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input, textarea, select, dialog");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) {
    if (event.key === "Escape" && isTyping) {
      event.target.blur();
    }
    return;
  }
  event.preventDefault();
  KEYS[event.key]();
});

document.addEventListener("htmx:afterSwap", (event) => {
  showLocalTimes(event.target);
  const link = selectedId && document.getElementById(selectedId);
  if (link) {
    link.closest("tr")?.classList.add("selected");
  }
});

document.documentElement.classList.add("js");
showLocalTimes(document);
setInterval(refresh, REFRESH_MS);
document.addEventListener("visibilitychange", refresh);
