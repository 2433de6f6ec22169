// The page: choose a face, give it something to say, watch. Any error is said, and gives the controls back.
import { ask } from "./api.js";
import { chosen, gallery, pictureOf, showAvatars } from "./avatars.js";
import { choose, clip, isRecording, toggleRecording } from "./clip.js";
import { $, draw, enable, sentence } from "./dom.js";
import { Live } from "./live.js";
import { offer } from "./new_avatar.js";
import { Session } from "./session.js";

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
  $("play").textContent = session ? "Say it" : clip.file ? "Play" : "Start";
  enable($("play"), !busy && !recording && !live && (session ? Boolean(clip.file) : Boolean(chosen())));
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
  $("idle").hidden = Boolean(session);
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
    complain(error.message);
  } finally {
    busy = false;
    show();
  }
}

const handlers = { onEnd: ended, onNotice: (text) => say(sentence(text)) };

async function started() {
  session ??= await Session.begin(chosen(), handlers);
  $("link").href = `#${session.id}`;
  return session;
}

function ended(error) {
  session = null;
  live?.close();
  complain(error);
  say(error ? "You can start again." : "The session has ended.");
  show();
}

async function play() {
  const watched = await started();
  if (!clip.file) return say("It listens. Choose a file, record one, or speak live.");
  const { queued } = await watched.say(clip.file);
  say(`It says ${clip.file.name} next: ${queued.toFixed(1)} s wait.`);
}

async function speak() {
  if (live) return live.close();
  const { address, player, state } = await started();
  if (state === "speaking") await session.interrupt();
  live = await Live.open(() => address("audio"), {
    onLevel: (level) => ($("level").value = level),
    onEnd: (error) => {
      live = null;
      player.hurried = false;
      complain(error || $("error-text").textContent);
      if (session) say("The microphone is off.");
      show();
    },
  });
  if (!session) return live.close(); // it ended while the microphone was asked for
  player.hurried = true;
  say("Speak now: the face says what you say.");
}

async function showStage() {
  const avatar = chosen();
  if (avatar) $("stage").style.aspectRatio = `${avatar.width} / ${avatar.height}`;
  show();
  if (!avatar) return [$("idle"), $("backdrop")].forEach((canvas) => (canvas.width += 0)); // which clears them
  const image = await pictureOf(avatar);
  Object.assign($("idle"), { width: image.width, height: image.height });
  draw($("idle"), image);
  draw($("backdrop"), image, true);
}

Object.assign(gallery, { onChoose: () => showStage().catch(() => {}), onError: complain });
Object.assign(clip, { onChange: show, onError: complain });

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  act(play);
});
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
  clip.longest = limits.clip_seconds;
  offer(limits);
  await showAvatars();
  say(chosen() ? "Choose a face and give it something to say." : "Make a face first.");
  if (location.hash.length > 1) {
    session = await Session.join(decodeURIComponent(location.hash.slice(1)), handlers);
    $("link").href = location.hash;
  }
});
