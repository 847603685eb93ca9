// What pages do beyond links and forms: copy buttons, live parts, choices that submit themselves.
// Every page works without it.
"use strict";

function say(text) {
  const place = document.getElementById("said");
  place.textContent = "";
  setTimeout(() => { place.textContent = text; }, 50);
}

function prepare(root) {
  for (const button of root.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) continue;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.parentElement.querySelector("code").textContent);
      const label = button.querySelector("span");
      label.textContent = "Copied";
      say("Copied");
      setTimeout(() => { label.textContent = "Copy"; }, 2000);
    });
  }
  for (const field of root.querySelectorAll("[data-submit]")) {
    field.addEventListener("change", () => field.form.requestSubmit());
  }
}

// refresh reads the page again and puts its live parts in place of those shown. The server does not
// take it for activity of the person, so an unattended window still signs itself out.
async function refresh() {
  if (document.hidden) return;
  const live = document.querySelectorAll("[data-live]");
  if (live.length === 0 || [...live].some((part) => part.contains(document.activeElement))) return;
  const answer = await fetch(location.href, { headers: { "Sallyport-Refresh": "1" } });
  if (answer.redirected || answer.status === 401) {
    location.reload();
    return;
  }
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of live) {
    const next = fresh.getElementById(part.id);
    if (next && next.innerHTML !== part.innerHTML) {
      part.replaceWith(next);
      prepare(next);
    }
  }
}

prepare(document);
const seconds = Number(document.body.dataset.refresh);
if (seconds > 0) {
  // A server that is away for a moment is asked again; the page stays as it is meanwhile.
  setInterval(() => refresh().catch(() => {}), seconds * 1000);
}
// A page that has changed something tells so, and need not wait.
addEventListener("sallyport:changed", () => refresh().catch(() => {}));
const current = document.querySelector(".side nav [aria-current]");
if (current) current.scrollIntoView({ block: "nearest", inline: "center" });
