// Plays the recording of the page. The address holds the whole state: ?t= is a second of the session
// as it was, also where pauses are cut short.
"use strict";

const place = document.getElementById("player");
const form = document.getElementById("replay-form");
const link = document.getElementById("replay-link");

// clock tells for a moment of the replay, in which pauses take at most limit seconds, the second of
// the session it shows.
function clock(cast, limit) {
  const lines = cast.split("\n").slice(1);
  const steps = []; // [moment of the replay, second of the session]
  let replay = 0, session = 0;
  for (const line of lines) {
    if (!line.startsWith("[")) continue;
    const interval = JSON.parse(line)[0];
    session += interval;
    replay += Math.min(interval, limit);
    steps.push([replay, session]);
  }
  return (moment) => {
    let low = 0, high = steps.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (steps[middle][0] < moment) low = middle + 1; else high = middle;
    }
    if (low === steps.length) return session;
    const [r, s] = steps[low];
    return Math.max(s - (r - moment), low > 0 ? steps[low - 1][1] : 0);
  };
}

// poster is a moment at which something is to be seen.
function poster(cast) {
  let time = 0;
  for (const line of cast.split("\n").slice(1)) {
    if (!line.startsWith("[")) continue;
    time += JSON.parse(line)[0];
    if (time > 2) break;
  }
  return Math.min(time, 2) + 0.001;
}

async function play() {
  const answer = await fetch(place.dataset.cast);
  if (!answer.ok || answer.redirected) throw new Error("status " + answer.status);
  const cast = await answer.text();
  const idle = Number(place.dataset.idle) || Infinity;
  const player = AsciinemaPlayer.create({ data: cast }, place, {
    speed: Number(place.dataset.speed) || 1,
    idleTimeLimit: idle === Infinity ? undefined : idle,
    startAt: Number(place.dataset.start) || 0,
    autoPlay: Number(place.dataset.start) > 0,
    preload: true,
    poster: "npt:" + poster(cast),
    fit: "width",
    terminalFontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
  });
  const second = clock(cast, idle);
  const now = async () => Math.floor(second(await player.getCurrentTime()));

  for (const choice of form.querySelectorAll("select")) {
    choice.addEventListener("change", async () => {
      form.elements.t.value = (await now()) || "";
      form.requestSubmit();
    });
  }
  if (navigator.clipboard) {
    link.hidden = false;
    link.addEventListener("click", async () => {
      const address = new URL(location.href);
      address.searchParams.set("channel", form.elements.channel.value);
      address.searchParams.set("t", await now());
      await navigator.clipboard.writeText(address.href);
      link.querySelector("span").textContent = "Link copied";
      setTimeout(() => { link.querySelector("span").textContent = "Copy link to this moment"; }, 2000);
    });
  }
}

play().catch((error) => {
  const text = document.createElement("p");
  text.textContent = "The recording cannot be played (" + error.message + "). The transcript may still be read.";
  place.replaceChildren(text);
});
