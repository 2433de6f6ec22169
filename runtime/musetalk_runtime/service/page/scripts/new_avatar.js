// Makes an avatar of a photo or video: sends it, and tells how its preparation goes.
import { ask, upload } from "./api.js";
import { pictureOf, showAvatars } from "./avatars.js";
import { $, enable, mebibytes, sentence } from "./dom.js";
import { Events } from "./events.js";
import { box, clearPicture, showFound, showPicture } from "./face_box.js";
import { scaled } from "./photo.js";

let file = null; // a promise of what is chosen, as it is sent
let making = null; // {name, abort}
let limits = null;

// Offer it, if the service takes uploads.
export function offer(told) {
  limits = told;
  $("add").hidden = !limits.avatar_bytes;
  $("by-hand").open = !limits.finds_faces;
  $("box-hint").textContent = limits.finds_faces
    ? "Only if the face is not found by itself."
    : "This service does not find faces by itself.";
}

function tell(text, share = null) {
  $("new-status").textContent = text;
  $("new-progress").hidden = !making;
  if (share === null) $("new-progress").removeAttribute("value");
  else $("new-progress").value = share;
}

function complain(text) {
  $("new-error").textContent = sentence(text);
  $("new-error").hidden = !text;
}

async function choose(chosen) {
  const photo = (file = scaled(chosen).catch(() => chosen));
  complain("");
  clearPicture();
  $("new-file-name").textContent = chosen.name;
  if (!$("new-name").value) $("new-name").value = suggestion(chosen.name);
  try {
    const shown = await photo;
    if (file !== photo) return; // another was chosen meanwhile
    await showPicture(shown);
    tell("Drag a box over the face, if need be.");
  } catch {
    tell("The browser cannot show this file; the service may still read it.");
  }
}

// A name the service takes, from a file's.
const suggestion = (name) => name.replace(/\.[^.]*$/, "").replace(/[^A-Za-z0-9_-]+/g, "-").replace(/^[^A-Za-z0-9]+/, "").slice(0, 64);

async function make() {
  if (!file) throw new Error("Choose a photo or a video.");
  const sent = await file;
  if (sent.size > limits.avatar_bytes) throw new Error(`The file has ${mebibytes(sent.size)}: it may have ${mebibytes(limits.avatar_bytes)}.`);
  const name = $("new-name").value;
  const query = new URLSearchParams({ name, ...(box() && { face_box: box() }) });
  making = { name, abort: new AbortController() };
  tell("Sending…", 0);
  const onProgress = (share) => tell(share < 1 ? `Sending: ${Math.round(share * 100)}%` : "Sent.", share);
  const avatar = await upload(`v1/avatars?${query}`, sent, { onProgress, signal: making.abort.signal });
  await follow(avatar);
  const ready = await ask(`v1/avatars/${name}`);
  await showAvatars(name);
  const image = await pictureOf(ready);
  showFound(image, ready.face_box, image.width / ready.width);
  return ready;
}

// Until it is ready; raises why it is not.
function follow(avatar) {
  return new Promise((done, fail) => {
    const end = (settle, value) => {
      notices.close();
      settle(value);
    };
    const handlers = {
      state: ({ state, error }) => {
        if (state === "ready") end(done);
        else if (state === "failed") end(fail, new Error(error));
        else tell(state === "waiting" ? "It waits for its turn…" : "Preparing…");
      },
      progress: ({ stage, done: count, total }) =>
        tell(`${stage[0].toUpperCase()}${stage.slice(1)}: ${count} of ${total}`, count / total),
    };
    const notices = new Events(avatar.events, {
      handlers,
      renew: async () => (await ask(`v1/avatars/${avatar.name}`)).events,
      onLost: (text) => end(fail, new Error(text)),
    });
    making.abort.signal.addEventListener("abort", () => end(fail, new DOMException("", "AbortError")));
  });
}

async function submit(event) {
  event.preventDefault();
  complain("");
  enable($("make"), false);
  try {
    const { name, frames, faces } = await make();
    making = null;
    tell(`${name} is ready: a face in ${faces} of ${frames} ${frames === 1 ? "frame" : "frames"}. It is chosen now.`);
    [file, $("new-name").value, $("new-file-name").textContent] = [null, "", "Choose a photo or video"];
    $("by-hand").open = false;
    $("cancel").textContent = "Done";
    $("cancel").focus();
  } catch (error) {
    making = null;
    tell("");
    complain(error.name === "AbortError" ? "" : error.message);
  } finally {
    enable($("make"), true);
  }
}

// Ends what is being made, wherever it is.
function cancel() {
  if (!making) return $("new").close();
  ask(`v1/avatars/${making.name}`, { method: "DELETE" }).catch(() => {});
  making.abort.abort();
}

$("add").addEventListener("click", () => {
  complain("");
  making = null;
  tell("");
  clearPicture();
  $("cancel").textContent = "Cancel";
  $("new").showModal();
});
$("new").addEventListener("cancel", (event) => {
  event.preventDefault(); // by Escape
  cancel();
});
$("new").addEventListener("close", () => $("add").focus());
$("cancel").addEventListener("click", cancel);
$("new-form").addEventListener("submit", submit);
$("new-file").addEventListener("change", (event) => event.target.files[0] && choose(event.target.files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  $("new-drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("new-drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) choose(event.dataTransfer.files[0]);
  });
}
