// What pages do beside being pages: they keep themselves fresh, take keys, and show times in other ways.
// Everything works without it, but for these.
"use strict";

(() => {
  const find = (id) => document.getElementById(id);
  const region = () => find("live");
  const seconds = Number(document.body.dataset.seconds) || 2;
  const POLL = Math.max(5, seconds) * 1000;

  const kept = {
    get(name) {
      try { return localStorage.getItem(`async_jobs.${name}`); } catch { return null; }
    },
    set(name, value) {
      try { localStorage.setItem(`async_jobs.${name}`, value); } catch { /* for this page only */ }
    },
  };

  // --- times ------------------------------------------------------------------------------------

  const local = new Intl.DateTimeFormat(undefined, { dateStyle: "short", timeStyle: "medium" });

  function showTimes(root) {
    const mode = kept.get("times") || "relative";
    for (const each of root.querySelectorAll("time[datetime]")) {
      if (!each.dataset.relative) each.dataset.relative = each.textContent;
      if (mode === "utc") each.textContent = each.title;
      else if (mode === "local") each.textContent = local.format(new Date(each.dateTime));
      else each.textContent = each.dataset.relative;
    }
  }

  // --- live -------------------------------------------------------------------------------------

  let stream = null;
  let poll = null;
  let waits = false;

  function tell(state, words) {
    const shown = find("live-state");
    if (!shown || !region()?.hasAttribute("hx-get")) return;
    shown.hidden = false;
    shown.dataset.state = state;
    if (shown.textContent !== words) shown.textContent = words;
  }

  function state() {
    if (waits) tell("held", "held");
    else if (stream?.readyState === EventSource.OPEN) tell("live", "live");
    else tell("polling", `every ${POLL / 1000} s`);
  }

  // Nothing moves under somebody who selects, types, or decides.
  function isBusy() {
    if (document.hidden || document.querySelector("dialog[open], #live details.act[open], #live input:checked")) return true;
    const active = document.activeElement;
    if (active?.closest("#live") && active.matches("input, select, textarea")) return true;
    const selection = getSelection();
    return Boolean(selection && !selection.isCollapsed && region()?.contains(selection.anchorNode));
  }

  function refresh() {
    if (!region()?.hasAttribute("hx-get")) return;
    waits = isBusy();
    if (!waits) htmx.trigger(region(), "refresh");
    state();
  }

  function startPolling() {
    if (poll === null) poll = setInterval(refresh, POLL);
    state();
  }

  function stopPolling() {
    clearInterval(poll);
    poll = null;
    state();
  }

  function open() {
    if (stream || !region()?.hasAttribute("hx-get")) return;
    startPolling();
    if (!("EventSource" in window)) return;
    stream = new EventSource(document.body.dataset.live);
    stream.addEventListener("open", stopPolling);
    stream.addEventListener("changed", refresh);
    stream.addEventListener("error", startPolling);
  }

  function close() {
    stream?.close();
    stream = null;
    clearInterval(poll);
    poll = null;
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      close(); // browsers have six connections to a host, and may have many of these pages
    } else {
      open();
      refresh();
    }
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  document.addEventListener("selectionchange", () => { if (waits && !isBusy()) refresh(); });
  document.addEventListener("focusout", () => setTimeout(() => { if (waits && !isBusy()) refresh(); }));
  document.addEventListener("change", () => { if (waits && !isBusy()) refresh(); });
  document.addEventListener("toggle", () => { if (waits && !isBusy()) refresh(); }, true);

  const stale = (is) => { const told = find("stale"); if (told) told.hidden = !is; };
  document.addEventListener("htmx:sendError", () => stale(true));
  document.addEventListener("htmx:timeout", () => stale(true));
  document.addEventListener("htmx:responseError", () => stale(true));
  document.addEventListener("htmx:afterSwap", () => { stale(false); if (region()) showTimes(region()); });

  // What somebody has opened stays open.
  const callbacks = window.Idiomorph?.defaults?.callbacks;
  if (callbacks) {
    callbacks.beforeAttributeUpdated = (name, node) => !(name === "open" && node.matches("details"));
  }

  // --- keys -------------------------------------------------------------------------------------

  let isGoing = false;

  function step(by) {
    const rows = [...document.querySelectorAll("[data-row]")];
    if (!rows.length) return;
    const at = rows.indexOf(document.activeElement);
    const next = at < 0 ? (by > 0 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + by));
    rows[next].focus();
    rows[next].scrollIntoView({ block: "nearest" });
  }

  function help() {
    const dialog = find("help");
    if (dialog && !dialog.open) dialog.showModal();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest?.("input, select, textarea")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (document.querySelector("dialog[open]")) return;
    if (isGoing) {
      isGoing = false;
      const to = [...document.querySelectorAll("nav.menu a")].find((each) => each.dataset.key === event.key);
      if (to) { event.preventDefault(); to.click(); return; }
    }
    if (event.key === "g") isGoing = true;
    else if (event.key === "/") { event.preventDefault(); find("find")?.focus(); }
    else if (event.key === "?") help();
    else if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
  });

  // --- the beginning ----------------------------------------------------------------------------

  function choice(id, fallback, apply) {
    const select = find(id);
    if (!select) return;
    select.hidden = false;
    select.value = kept.get(id) || fallback;
    select.addEventListener("change", () => { kept.set(id, select.value); apply(select.value); });
  }

  choice("times", "relative", () => showTimes(document));
  choice("theme", "system", (value) => {
    if (value === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = value;
  });
  const button = find("help-button");
  if (button) { button.hidden = false; button.addEventListener("click", help); }
  showTimes(document);
  open();
})();
