// A screen that nobody touches: a session, all over it, for ever. ?avatar=NAME (and &bundle=NAME) begins one and, when it
// has ended, another; ?session=ID shows one and waits for it. #TOKEN is the token of a service that wants one.
import { $, sentence } from "./dom.js";
import { sleep } from "./promises.js";
import { Session } from "./session.js";
import { keep } from "./token.js";

const WAITS = [0.5, 1, 2, 5]; // seconds before it is tried again, by how often it has failed
const wanted = new URLSearchParams(location.search);
const [avatar, bundle, id] = ["avatar", "bundle", "session"].map((name) => wanted.get(name));
let shown = null;

const say = (text) => ($("status").textContent = sentence(text));

// Show one session to its end, which is told in words if it was an error.
function show() {
  return new Promise((done, fail) => {
    const handlers = { onEnd: done, onNotice: () => {}, onRefused: mute };
    const begun = id ? Session.join(id, handlers) : Session.begin({ avatar, bundle: bundle ?? undefined }, handlers);
    begun.then((session) => (shown = session), fail);
  });
}

// Without sound it may play.
function mute() {
  $("video").muted = true;
  $("video").play();
  say("Silent: start Chromium with --autoplay-policy=no-user-gesture-required.");
}

async function showForEver() {
  let failures = 0;
  $("video").addEventListener("playing", () => {
    failures = 0;
    if (!$("video").muted) say("");
  });
  for (;;) {
    try {
      say(await show());
    } catch (error) {
      say(error.message);
    }
    shown = null;
    await sleep(WAITS[Math.min(failures++, WAITS.length - 1)]);
  }
}

function stayAwake() {
  if (!document.hidden) navigator.wakeLock?.request("screen").catch(() => {}); // the screen's own settings decide
}

if (location.hash.length > 1) {
  keep(decodeURIComponent(location.hash.slice(1)));
  history.replaceState(null, "", location.pathname + location.search);
}
addEventListener("pagehide", () => shown?.close());
document.addEventListener("visibilitychange", stayAwake);
stayAwake();
if (avatar || id) showForEver();
else say("Which face? /player?avatar=NAME begins a session, /player?session=ID shows one.");
