// What is to be said: a file that is chosen or dropped, or a recording.
import { request } from "./api.js";
import { $, clock, mebibytes } from "./dom.js";
import { loudness, Microphone } from "./microphone.js";
import { wav } from "./wav.js";

let recording = null; // {microphone, pieces, samples}
let address = null;

// {file, bytes, seconds}: what is chosen now, and how large and how long a clip may be; `onChange` and `onError` are told.
export const clip = { file: null, bytes: Infinity, seconds: 300, onChange: () => {}, onError: () => {} };

// Why the clip cannot be sent; nothing if it can.
export function refusal() {
  const { duration } = $("preview");
  const [size, length] = [mebibytes(clip.file.size), clock(duration)];
  if (clip.file.size > clip.bytes) return `The file has ${size}: a clip may have ${mebibytes(clip.bytes)}.`;
  if (Number.isFinite(duration) && duration > clip.seconds) return `The file is ${length} long: a clip may last ${clock(clip.seconds)}.`;
  return "";
}

// The speech that comes with the package.
export async function chooseDemo() {
  const answer = await request("speech.wav");
  if (!answer.ok) throw new Error("The demo's speech is not there.");
  choose(new File([await answer.blob()], "demo-speech.wav", { type: "audio/wav" }));
}

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
  if (made.samples >= (clip.seconds - 1) * 16000) finish();
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
