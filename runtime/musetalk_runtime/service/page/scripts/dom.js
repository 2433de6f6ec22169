// Small things that every part of the page needs.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A control that cannot be used now stays where the focus may be.
export function enable(control, on) {
  control.setAttribute("aria-disabled", String(!on));
}

export const enabled = (control) => control.getAttribute("aria-disabled") !== "true";

addEventListener(
  "click",
  (event) => {
    if (event.target.closest?.("[aria-disabled=true]")) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  },
  { capture: true },
);

// Draw an image, as large as it fits without being cut, or filling all of it.
export function draw(canvas, image, fill = false) {
  const [width, height] = [image.videoWidth ?? image.width, image.videoHeight ?? image.height];
  const scale = Math[fill ? "max" : "min"](canvas.width / width, canvas.height / height);
  const [w, h] = [width * scale, height * scale];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, (canvas.width - w) / 2, (canvas.height - h) * (fill ? 0.25 : 0.5), w, h);
}

// A message as a sentence.
export const sentence = (text) => text && `${text[0].toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;

export const mebibytes = (bytes) => `${Number((bytes / 2 ** 20).toPrecision(3))} MiB`;

export const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
