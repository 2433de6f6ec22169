// The page: choose an avatar, give it something to say, watch. Any error is said, and gives the controls back.
import { ask, postJson, request } from "./api.js";
import { Player } from "./player.js";

const $ = (id) => document.getElementById(id);
const video = $("video");
let session = null; // {id, own, player, events}
let file = null;

function say(text) {
  $("status").textContent = text;
}

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

function unlock() {
  $("play").disabled = false;
  $("play").textContent = session ? "Say it" : "Play";
  $("avatar").disabled = Boolean(session);
  $("interrupt").disabled = $("end").disabled = !session;
  $("share").hidden = !session;
}

// Run one action with the controls locked; whatever happens, they are unlocked.
async function act(action) {
  complain("");
  $("play").disabled = $("interrupt").disabled = true;
  try {
    await action();
  } catch (error) {
    complain(error.message);
  } finally {
    unlock();
  }
}

function choose(chosen) {
  file = chosen ?? null;
  $("clip-name").textContent = file ? file.name : "Choose a speech file";
}

async function play() {
  if (!session) {
    watch(await postJson("v1/sessions", { avatar: $("avatar").value }), true);
  }
  if (file) {
    const { queued } = await ask(`v1/sessions/${session.id}/audio`, { method: "POST", body: file });
    say(`Said next: ${file.name}. ${queued.toFixed(1)} s wait.`);
  } else {
    say("The avatar idles. Choose a file, and it speaks.");
  }
}

// `addresses` are what the service answered of the session: some browser requests cannot send the token, these need none.
function watch({ id, ...addresses }, own) {
  const events = new EventSource(addresses.events);
  const player = new Player(video, addresses.stream, { onError: (text) => stop(text), onEnd: () => stop() });
  session = { id, own, player, events };
  $("link").href = `#${id}`;
  const on = (name, handle) => events.addEventListener(name, (event) => handle(JSON.parse(event.data)));
  on("state", ({ state, error }) => {
    if (state === "ended" || state === "failed") events.close();
    if (state === "failed") stop(error ?? "The session failed.");
  });
  on("buffer", show);
  on("warning", ({ message }) => say(message));
  on("interrupted", ({ at }) => player.skip(at));
  unlock();
}

function show({ ahead, queued, viewers }) {
  if (!session) return;
  const { buffered, reconnections } = session.player;
  const parts = [`buffer ${buffered.toFixed(1)} s`, `ahead ${ahead.toFixed(1)} s`, `queued ${queued.toFixed(1)} s`, `${viewers} watching`];
  if (reconnections) parts.push(`${reconnections} reconnected`);
  $("figures").textContent = parts.join("  ·  ");
}

// The session is over for this page; `error` says why, if it is one.
function stop(error = "") {
  if (!session) return;
  session.events.close();
  session.player.close();
  if (session.own) request(`v1/sessions/${session.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
  session = null;
  $("figures").textContent = "";
  complain(error);
  say(error ? "You can start again." : "The session has ended.");
  unlock();
}

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  act(play);
});
$("interrupt").addEventListener("click", () => {
  video.pause(); // the mouth stops now; playback goes on where it is closed
  act(async () => {
    try {
      session.player.skip((await ask(`v1/sessions/${session.id}/interrupt`, { method: "POST" })).at);
    } finally {
      if (!session?.player.source) video.play().catch(() => {});
    }
  });
});
$("end").addEventListener("click", () => stop());
$("clip").addEventListener("change", (event) => choose(event.target.files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop") choose(event.dataTransfer.files[0]);
  });
}
addEventListener("pagehide", () => stop());

act(async () => {
  const avatars = await ask("v1/avatars");
  $("avatar").replaceChildren(...avatars.map(({ name, width, height }) => new Option(`${name} (${width} × ${height})`, name)));
  if (location.hash.length > 1) watch(await ask(`v1/sessions/${encodeURIComponent(location.hash.slice(1))}`), false);
});
addEventListener("hashchange", () => location.reload());
