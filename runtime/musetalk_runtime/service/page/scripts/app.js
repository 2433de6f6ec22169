// The page: choose a face, give it something to say, watch. Any error is said, and gives the controls back.
import { ask } from "./api.js";
import { chosen, gallery, showAvatars } from "./avatars.js";
import { choose, chooseDemo, clip, isRecording, refusal, toggleRecording } from "./clip.js";
import { $, clock, enable, sentence } from "./dom.js";
import { Live } from "./live.js";
import { offer } from "./new_avatar.js";
import { notice } from "./notice.js";
import { placed } from "./place.js";
import { poses, showPoses } from "./poses.js";
import { Session } from "./session.js";
import { bringIntoView, showAvatar, showVideo } from "./stage.js";
import { enableText, offerText, told, words } from "./text_box.js";

let session = null;
let live = null;
let busy = false;

function say(text) {
  $("status").textContent = text;
}

function complain(text) {
  $("error-text").textContent = sentence(text);
  $("error").hidden = !text;
}

function show() {
  const recording = isRecording();
  const free = !busy && !recording && !live;
  $("play").textContent = session ? "Say it" : clip.file ? "Play" : "Start";
  enable($("play"), free && (session ? Boolean(clip.file) : Boolean(chosen())));
  enable($("demo"), free && Boolean(session || chosen()));
  enableText(free && Boolean(session || chosen()));
  enable($("live"), !busy && !recording && Boolean(live || session || chosen()));
  enable($("record"), !busy && !live);
  enable($("interrupt"), !busy && Boolean(session));
  enable($("end"), Boolean(session));
  $("live").setAttribute("aria-pressed", String(Boolean(live)));
  $("live-text").textContent = live ? "Stop speaking" : "Speak live";
  $("record").setAttribute("aria-pressed", String(recording));
  $("record-text").textContent = recording ? "Stop recording" : "Record";
  $("meter").hidden = !live && !recording;
  $("recorded").hidden = !recording;
  for (const input of document.querySelectorAll("#avatars input")) input.disabled = Boolean(session);
  $("share").hidden = !session;
  showVideo(Boolean(session));
  showPoses(session);
}

// Run one action with the controls locked; whatever happens, they are unlocked.
async function act(action) {
  if (busy) return;
  complain("");
  say("");
  busy = true;
  show();
  try {
    await action();
  } catch (error) {
    say("");
    complain(error.name === "AbortError" ? "" : error.message);
  } finally {
    busy = false;
    show();
  }
}

const handlers = {
  onEnd: ended,
  onNotice: notice,
  onPose: () => showPoses(session),
  onRefused: () => notice("The browser wants a click before it plays: press Go on, in the picture"),
};

const settings = () => ({ avatar: chosen().name, bundle: chosen().bundles[0] });

function watch(begun) {
  session = begun;
  $("link").href = `#${session.id}`;
}

function ended(error) {
  session = null;
  live?.close();
  notice("");
  complain(error);
  say(error ? "You can start again." : "The session has ended.");
  show();
}

async function play() {
  const { file } = clip;
  const refused = file && refusal();
  if (refused) throw new Error(refused);
  bringIntoView();
  if (!file) {
    session ?? watch(await placed(() => Session.begin(settings(), handlers)));
    return say("It listens. Choose a file, record one, or speak live.");
  }
  const { seconds, before } = session ? await session.say(file) : await beginWith(file);
  const other = before >= 1 ? `, after ${clock(Math.round(before))} of other speech` : "";
  say(`It says ${file.name}, ${clock(Math.round(seconds))} long${other}.`);
}

// The file is sent with the first request. A service that is full has found it good by then: what follows only asks for
// a place.
async function beginWith(file) {
  let sent = false;
  const progress = (share) => share < 1 && say(`Sending ${file.name}: ${Math.round(share * 100)}%`);
  const begun = await placed(() => {
    if (sent) return Session.begin(settings(), handlers);
    sent = true;
    return Session.beginWith(file, settings(), handlers, progress);
  });
  watch(begun);
  return begun.seconds === undefined ? begun.say(file) : begun;
}

async function sayText() {
  const text = words();
  bringIntoView();
  session ?? watch(await placed(() => Session.begin(settings(), handlers)));
  say(told(await session.sayText(text)));
}

async function speak() {
  if (live) return live.close();
  bringIntoView();
  session ?? watch(await placed(() => Session.begin({ ...settings(), conversation: true }, handlers)));
  const spoken = session;
  if (spoken.state === "speaking") await spoken.interrupt();
  live = await Live.open(spoken, {
    onLevel: (level) => ($("level").value = level),
    onEnd: (error) => {
      live = null;
      if (!spoken.closed) spoken.converse(false);
      complain(error || $("error-text").textContent);
      if (session) say("The microphone is off.");
      show();
    },
  });
  if (!session) return live.close(); // it ended while the microphone was asked for
  spoken.converse(true);
  say("Speak now: the face says what you say.");
}

Object.assign(gallery, {
  onChoose: () => {
    show();
    showAvatar(chosen()).catch(() => {});
  },
  onError: complain,
});
Object.assign(clip, { onChange: show, onError: complain });

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  act(play);
});
$("demo").addEventListener("click", () =>
  act(async () => {
    await chooseDemo();
    await play();
  }),
);
$("say-text").addEventListener("click", () => act(sayText));
poses.onChoose = (name) => act(() => session.changePose(name));
$("interrupt").addEventListener("click", () => act(() => session.interrupt()));
$("end").addEventListener("click", () => {
  session.close();
  $("play").focus();
});
$("record").addEventListener("click", () => act(toggleRecording));
$("live").addEventListener("click", () => act(speak));
$("dismiss").addEventListener("click", () => {
  complain("");
  $("play").focus();
});
addEventListener("pagehide", () => session?.close());
addEventListener("hashchange", () => location.reload());

choose(null);
act(async () => {
  const limits = await ask("v1/limits");
  Object.assign(clip, { bytes: limits.clip_bytes, seconds: limits.clip_seconds });
  offer(limits);
  offerText(limits);
  await showAvatars();
  say(chosen() ? "Choose a face and give it something to say." : "Make a face first.");
  if (location.hash.length > 1) watch(await Session.join(decodeURIComponent(location.hash.slice(1)), handlers));
});
