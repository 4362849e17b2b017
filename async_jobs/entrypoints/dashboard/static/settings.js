// Before anything is painted: the colours that were chosen in this browser.
"use strict";
try {
  const theme = localStorage.getItem("async_jobs.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Without storage a page has the colours of the system.
}
