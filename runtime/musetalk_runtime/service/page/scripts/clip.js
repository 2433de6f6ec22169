// What is to be said: a file that is chosen or dropped, or a recording.
import { $, clock } from "./dom.js";
import { loudness, Microphone } from "./microphone.js";
import { wav } from "./wav.js";

let recording = null; // {microphone, pieces, samples}
let address = null;

// {file, onRecorded, longest}: what is chosen now, who is told, and the longest recording in seconds.
export const clip = { file: null, longest: 300, onChange: () => {}, onError: () => {} };

export function choose(file) {
  clip.file = file ?? null;
  if (address) URL.revokeObjectURL(address);
  address = file ? URL.createObjectURL(file) : null;
  $("clip-name").textContent = file ? file.name : "Choose a speech file";
  $("clip-hint").textContent = file ? "Choose or drop another to replace it" : "or drop one here: any audio or video";
  $("preview").hidden = !file;
  if (file) $("preview").src = address;
  else $("preview").removeAttribute("src");
  clip.onChange();
}

export const isRecording = () => recording !== null;

export async function toggleRecording() {
  if (recording) return finish();
  const made = { pieces: [], samples: 0 };
  made.microphone = await Microphone.open({ onPcm: (piece) => hear(made, piece), onEnd: finish });
  recording = made;
  clip.onChange();
}

function hear(made, piece) {
  made.pieces.push(piece);
  made.samples += piece.length;
  $("level").value = loudness(piece);
  $("recorded").textContent = clock(made.samples / 16000);
  if (made.samples >= (clip.longest - 1) * 16000) finish();
}

function finish() {
  if (!recording) return;
  const { microphone, pieces, samples } = recording;
  recording = null;
  microphone.close();
  if (samples) choose(wav(pieces, `Recording ${clock(samples / 16000)}.wav`));
  else clip.onError("Nothing was recorded.");
  clip.onChange();
}

$("preview").addEventListener("error", () => ($("preview").hidden = true)); // the service may still know it
$("clip").addEventListener("change", (event) => event.target.files[0] && choose(event.target.files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
    if (name === "drop" && event.dataTransfer.files[0]) choose(event.dataTransfer.files[0]);
  });
}
