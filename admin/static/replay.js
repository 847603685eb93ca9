// Plays the recording of the page, segment by segment: a jump asks the server for the segment it leads
// to, which begins with the screen of that moment. The address holds the whole state: ?t= is a second
// of the recording, ?speed= and ?idle= are as chosen.
"use strict";

const place = document.getElementById("player");
const form = document.getElementById("replay-form");
const copy = document.getElementById("replay-copy");
const here = document.getElementById("replay-here");
const toggle = document.getElementById("replay-toggle");

const speeds = [...form.elements.speed.options].map((o) => Number(o.value));
let speed = Number(place.dataset.speed) || 1;
let idle = Number(place.dataset.idle) || 0; // seconds that a pause takes at most; 0: as long as it was
let player = null;
let playing = false;
let begun = Number(place.dataset.start) || 0; // where it stands before it was first played
let touched = false; // it was played, or moved to another moment
let pauses = [], pausesOf = 0; // [from, to] in seconds, of at least so many

// moment is the second of the recording that is shown.
function moment() {
  const t = touched && player ? player.getCurrentTime() : begun;
  return Math.round(t * 10) / 10;
}

// words is a moment as people read it.
function words(t) {
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  return (t >= 3600 ? Math.floor(t / 3600) + ":" + two(t / 60 % 60) : String(Math.floor(t / 60))) + ":" + two(t % 60);
}

// read is the moment that somebody has typed: 73, 73.5, 1:13 or 1:02:03; NaN if it is none.
function read(text) {
  const fields = text.trim().split(":");
  if (fields.length > 3 || fields.some((f) => !/^\d+(\.\d+)?$/.test(f))) return text.trim() === "" ? 0 : NaN;
  return fields.reduce((sum, f) => sum * 60 + Number(f), 0);
}

// addressAt is the address of this page at a moment.
function addressAt(t) {
  const address = new URL(location.href);
  address.hash = "";
  for (const [name, value] of [["channel", form.elements.channel.value], ["speed", form.elements.speed.value], ["idle", form.elements.idle.value]]) {
    address.searchParams.set(name, value);
  }
  if (t > 0) address.searchParams.set("t", t); else address.searchParams.delete("t");
  return address.href;
}

function showMoment() {
  const t = moment();
  here.href = addressAt(t);
  here.textContent = "Link to " + (t > 0 ? words(t) : "the beginning");
}

function keepMoment() {
  showMoment();
  history.replaceState(null, "", here.href);
}

function failed(text) {
  const line = document.createElement("p");
  line.setAttribute("role", "alert");
  line.textContent = "The recording cannot be played: " + text + ". The transcript may still be read.";
  place.replaceChildren(line);
}

// create makes the player anew: its speed cannot be changed otherwise. It stands at the second begun,
// and shows the screen of another one if there is nothing to be seen yet. (That is not left to the
// player's own poster: version 3.17 clears the screen after it, and goes on in the same segment.)
function create(start, shown, autoPlay) {
  if (player) player.dispose();
  begun = start;
  touched = playing = false;
  const it = player = AsciinemaPlayer.create({ url: place.dataset.base + "/replay.json", format: "segmented" }, place, {
    speed, startAt: start, autoPlay, preload: true, fit: "width",
    terminalFontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
  });
  let opening = !autoPlay;
  const on = (name, f) => it.addEventListener(name, (e) => { if (it === player) f(e); });
  on("ready", async () => {
    if (!opening) return;
    await it.seek(shown);
    opening = false;
  });
  on("play", () => {
    showState(true);
    if (!touched && begun !== shown && !autoPlay) it.seek(begun);
    touched = true;
  });
  on("pause", () => { showState(false); keepMoment(); });
  on("ended", () => { showState(false); keepMoment(); });
  on("seeked", () => {
    if (opening) return;
    touched = true;
    if (!playing) keepMoment();
  });
  on("error", (e) => failed(e && e.message ? e.message : "the server does not answer"));
}

function showState(plays) {
  playing = plays;
  toggle.textContent = plays ? "Pause" : "Play";
}

async function seek(t) {
  touched = true;
  await player.seek(t);
  keepMoment();
  place.scrollIntoView({ block: "nearest" });
}

// choose takes what the form says about speed and pauses.
async function choose() {
  const t = moment(), went = playing;
  idle = Number(form.elements.idle.value) || 0;
  if (speed !== Number(form.elements.speed.value)) {
    speed = Number(form.elements.speed.value);
    create(t, t, went);
  }
  await knowPauses();
  keepMoment();
}

async function knowPauses() {
  if (!idle || pausesOf === idle) return;
  const wanted = idle;
  const answer = await fetch(place.dataset.base + "/pauses.json?idle=" + wanted);
  if (!answer.ok || answer.redirected || wanted !== idle) return;
  const list = await answer.json();
  pauses = [];
  for (let i = 0, end = 0; i < list.length; i += 2) {
    const from = end + list[i];
    end = from + list[i + 1];
    pauses.push([from / 1000, end / 1000]);
  }
  pausesOf = wanted;
}

// skip jumps over the rest of a pause that has taken long enough.
let skipping = false;
async function skip() {
  if (!playing || !idle || skipping || pausesOf !== idle) return;
  const t = player.getCurrentTime();
  let low = 0, high = pauses.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (pauses[middle][0] <= t) low = middle + 1; else high = middle;
  }
  if (low === 0) return;
  const [from, to] = pauses[low - 1];
  if (t - from < idle || to - t < 0.1) return;
  skipping = true;
  try {
    await player.seek(to);
  } finally {
    skipping = false;
  }
}

form.addEventListener("submit", async (e) => {
  const t = read(form.elements.t.value);
  if (Number.isNaN(t)) return; // the server says what it takes
  e.preventDefault();
  await choose();
  await seek(t);
});
for (const choice of form.querySelectorAll("select")) choice.addEventListener("change", choose);
for (const link of document.querySelectorAll(".markers a[data-second]")) {
  link.addEventListener("click", (e) => {
    if (e.ctrlKey || e.metaKey || e.shiftKey || e.altKey) return;
    e.preventDefault();
    seek(Number(link.dataset.second));
  });
}
place.addEventListener("keydown", (e) => {
  if (e.altKey || e.metaKey || e.ctrlKey) return;
  const step = { "+": 1, ">": 1, "-": -1, "<": -1 }[e.key];
  const next = speeds[speeds.indexOf(speed) + step];
  if (step === undefined || next === undefined) return;
  e.preventDefault();
  e.stopPropagation();
  form.elements.speed.value = String(next);
  choose().then(() => { const at = place.querySelector(".ap-player, .ap-wrapper"); if (at) at.focus(); });
}, true);
if (navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    const label = copy.querySelector("span");
    await navigator.clipboard.writeText(addressAt(moment()));
    label.textContent = "Link copied";
    setTimeout(() => { label.textContent = "Copy link to this moment"; }, 2000);
  });
}

toggle.hidden = false;
toggle.addEventListener("click", () => { if (playing) player.pause(); else player.play(); });
create(begun, Number(place.dataset.poster) || begun || 2, false);
knowPauses().catch(() => {});
setInterval(() => { skip().catch(() => {}); if (playing) showMoment(); }, 100);
