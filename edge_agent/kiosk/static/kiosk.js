// Keeps the screen of the counter live. When the terminal falls silent the screen is emptied: nothing old stays up.
"use strict";
(() => {
  const SILENCE_MS = 25000;
  const AGAIN_MS = 2000;
  const root = document.getElementById("screen");
  const main = document.querySelector("main");
  const digits = document.documentElement.lang === "fa" ? "fa" : "en";
  let source = null;
  let silence = 0;
  let lost = false;

  function show(html) {
    const next = document.createElement("template");
    next.innerHTML = html;
    const now = root.firstElementChild;
    const then = next.content.firstElementChild;
    if (now && then && now.dataset.key === then.dataset.key) {
      // the same step: change only what differs, so that motion and focus go on
      for (const part of then.querySelectorAll("[data-part]")) {
        const old = now.querySelector(`[data-part="${part.dataset.part}"]`);
        if (old && old.outerHTML !== part.outerHTML) old.replaceWith(part.cloneNode(true));
      }
    } else {
      const focused = document.activeElement && root.contains(document.activeElement) ? document.activeElement.id : "";
      root.replaceChildren(next.content);
      if (focused) document.getElementById(focused)?.focus();
    }
    const stage = root.querySelector(".stage");
    if (!stage) return;
    document.title = `${stage.dataset.word} · ${document.body.dataset.product}`;
    const count = document.getElementById("today-count");
    if (count) count.textContent = Number(stage.dataset.today).toLocaleString(digits);
    tick();
  }

  function tick() {
    for (const place of root.querySelectorAll("[data-since]")) {
      const seconds = Math.max(0, Math.floor((Date.now() - Number(place.dataset.since)) / 1000));
      place.textContent = `${seconds.toLocaleString(digits)} ${document.body.dataset.seconds}`;
    }
  }

  function heard() {
    window.clearTimeout(silence);
    silence = window.setTimeout(fail, SILENCE_MS);
    if (lost) window.location.replace("/");
  }

  function fail() {
    if (!lost) {
      lost = true;
      main.classList.add("lost");
      root.replaceChildren(document.getElementById("lost").content.cloneNode(true));
      document.title = root.querySelector(".stage").dataset.word;
    }
    if (source) source.close();
    window.clearTimeout(silence);
    silence = window.setTimeout(connect, AGAIN_MS);
  }

  function connect() {
    source = new EventSource(root.dataset.events);
    source.addEventListener("screen", (event) => { heard(); if (!lost) show(event.data); });
    source.addEventListener("beat", heard);
    source.onerror = fail;
    window.clearTimeout(silence);
    silence = window.setTimeout(fail, SILENCE_MS);
  }

  window.setInterval(tick, 1000);
  tick();
  connect();
})();
