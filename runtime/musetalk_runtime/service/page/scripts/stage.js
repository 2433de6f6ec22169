// The stage: the picture of the face that is chosen, and the controls of the video that is played there.
import { pictureOf } from "./avatars.js";
import { $, draw } from "./dom.js";

const video = $("video");

// Show an avatar that does not speak yet, or nobody.
export async function showAvatar(avatar) {
  if (!avatar) return ($("idle").width += 0); // which clears it
  $("stage").style.setProperty("--ratio", avatar.width / avatar.height);
  const image = await pictureOf(avatar);
  Object.assign($("idle"), { width: image.width, height: image.height });
  draw($("idle"), image);
}

// Show the video in the picture's place, from its first frame on, or the picture again.
export function showVideo(on) {
  $("idle").hidden = on && video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA;
  $("controls").hidden = !on;
}

export const bringIntoView = () => $("stage").scrollIntoView({ block: "nearest" });

function show() {
  label("pause", video.paused ? "Go on" : "Pause", video.paused);
  label("mute", video.muted ? "Sound on" : "Mute", video.muted);
  $("volume").value = video.muted ? 0 : video.volume;
  label("full", document.fullscreenElement ? "Leave full screen" : "Full screen", Boolean(document.fullscreenElement));
}

// A button's name, and which of its two pictures it has.
function label(id, text, second) {
  $(id).title = text;
  $(id).setAttribute("aria-label", text);
  $(id).classList.toggle("second", second);
}

function togglePause() {
  if (video.paused) video.play().catch(() => {});
  else video.pause();
}

function toggleFullScreen() {
  if (document.fullscreenElement) return document.exitFullscreen();
  if ($("stage").requestFullscreen) return $("stage").requestFullscreen();
  video.webkitEnterFullscreen?.(); // an iPhone has it for videos alone
}

$("pause").addEventListener("click", togglePause);
$("mute").addEventListener("click", () => (video.muted = !video.muted));
$("volume").addEventListener("input", () => Object.assign(video, { volume: Number($("volume").value), muted: false }));
$("full").addEventListener("click", toggleFullScreen);
video.addEventListener("loadeddata", () => showVideo(true));
for (const name of ["play", "pause", "volumechange"]) video.addEventListener(name, show);
document.addEventListener("fullscreenchange", show);
show();
