// Shows an open session in the player, by the WebSocket of the page. The server sends the present screen first, so that
// a connection that broke off is simply made again.
"use strict";

const place = document.getElementById("live");
const state = document.getElementById("live-state");

const address = new URL(place.dataset.socket, location.href);
address.protocol = address.protocol === "https:" ? "wss:" : "ws:";

const player = AsciinemaPlayer.create({ driver: "websocket", url: address.href, bufferTime: 0 }, place, {
  autoPlay: true,
  fit: "width",
  controls: false,
  terminalFontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
});
// Whoever moves on the page is there: a web session that somebody watches with does not end for want of clicks.
let stirred = Date.now();
for (const sign of ["pointermove", "keydown", "wheel", "touchstart"]) {
  addEventListener(sign, () => {
    if (Date.now() - stirred < 60_000) return;
    stirred = Date.now();
    fetch(location.href).catch(() => {});
  }, { passive: true });
}

// From here on the server counts this page among those who watch.
player.addEventListener("playing", () => {
  state.textContent = "You see what the person sees.";
  dispatchEvent(new Event("sallyport:changed"));
});
player.addEventListener("ended", () => { state.textContent = "The live view is over. The recording has the rest."; });
