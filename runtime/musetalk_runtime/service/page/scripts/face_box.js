// The picture that is to become an avatar, and the box of the face on it, drawn with the pointer or given in pixels.
import { $, draw } from "./dom.js";

const SIDE = 560; // pixels of the longer side, as it is shown
const INPUTS = ["x0", "y0", "x1", "y1"].map($);

let image = null; // an ImageBitmap or a video
let scale = 1; // of what is shown to the picture

// Show a photo or the beginning of a video; raises what the browser cannot read.
export async function showPicture(file) {
  image = file.type.startsWith("video/") ? await firstFrame(file) : await createImageBitmap(file);
  const [width, height] = [image.videoWidth ?? image.width, image.videoHeight ?? image.height];
  scale = Math.min(1, SIDE / Math.max(width, height));
  Object.assign($("picture"), { width: Math.round(width * scale), height: Math.round(height * scale) });
  $("picture").hidden = false;
  redraw();
}

export function clearPicture() {
  if (image?.src) URL.revokeObjectURL(image.src);
  image = null;
  $("picture").hidden = true;
  for (const input of INPUTS) input.value = "";
}

// As the service wants it, or null where none is given.
export function box() {
  const values = INPUTS.map(({ value }) => value.trim());
  return values.every((value) => value === "") ? null : values.join(",");
}

// Show the picture of an avatar, and where its face was found.
export function showFound(picture, [x0, y0, x1, y1], factor) {
  [image, scale] = [picture, factor];
  Object.assign($("picture"), { width: picture.width, height: picture.height });
  [x0, y0, x1, y1].forEach((value, n) => (INPUTS[n].value = value));
  redraw();
  for (const input of INPUTS) input.value = "";
}

function firstFrame(file) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
  return new Promise((done, fail) => {
    video.onloadeddata = () => done(video);
    video.onerror = () => fail(new Error("the browser cannot show this video"));
    video.src = URL.createObjectURL(file);
  });
}

function redraw() {
  if (!image) return;
  draw($("picture"), image);
  const values = INPUTS.map(({ value }) => (value === "" ? NaN : Number(value)));
  if (values.some(Number.isNaN)) return;
  const [x0, y0, x1, y1] = values.map((value) => value * scale);
  const context = $("picture").getContext("2d");
  for (const [colour, line] of [["#000a", 5], ["#fff", 2]]) {
    Object.assign(context, { strokeStyle: colour, lineWidth: line });
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
}

function place({ offsetX, offsetY }) {
  const { width, clientWidth } = $("picture");
  return [offsetX, offsetY].map((at) => Math.round((at * width) / clientWidth / scale));
}

let from = null;
$("picture").addEventListener("pointerdown", (event) => {
  from = place(event);
  $("picture").setPointerCapture(event.pointerId);
});
$("picture").addEventListener("pointermove", (event) => {
  if (!from) return;
  const to = place(event);
  const corners = [Math.min, Math.max].flatMap((choose) => [0, 1].map((axis) => choose(from[axis], to[axis])));
  INPUTS.forEach((input, n) => (input.value = corners[n]));
  $("by-hand").open = true;
  redraw();
});
$("picture").addEventListener("pointerup", () => (from = null));
for (const input of INPUTS) input.addEventListener("input", redraw);
