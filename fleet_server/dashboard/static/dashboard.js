// Keeps "12 s ago" moving, and says so when live updates stop.
"use strict";
(() => {
  const data = document.body.dataset;
  const fa = document.documentElement.lang === "fa";
  const units = [[86400, data.agoD], [3600, data.agoH], [60, data.agoMin], [1, data.agoS]];
  const stale = document.getElementById("stale");

  function ago(atMs) {
    const past = Math.max(0, Math.floor((Date.now() - atMs) / 1000));
    if (past < 5) return data.agoNow;
    const [size, words] = units.find(([each]) => past >= each);
    return words.replace("{}", Math.floor(past / size).toLocaleString(fa ? "fa" : "en"));
  }

  function tick() {
    for (const place of document.querySelectorAll("[data-ago]")) {
      const text = ago(Number(place.dataset.ago));
      if (place.textContent !== text) place.textContent = text;
    }
  }

  async function sessionEnded() {
    try {
      return (await fetch(window.location.href, { cache: "no-store" })).status === 401;
    } catch {
      return false;
    }
  }

  document.body.addEventListener("htmx:sseOpen", () => { stale.hidden = true; });
  document.body.addEventListener("htmx:sseError", async () => {
    stale.hidden = false;
    if (await sessionEnded()) window.location.reload();
  });
  document.body.addEventListener("htmx:sseMessage", tick);
  window.setInterval(tick, 1000);
})();
