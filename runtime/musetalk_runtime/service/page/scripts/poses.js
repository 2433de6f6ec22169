// The buttons for the poses of a face that has several.
import { $, element } from "./dom.js";

export const poses = { onChoose: () => {} }; // gets the name of a pose

// Show those of `session`, and which plays; none without a session, or with one pose.
export function showPoses(session) {
  const names = session?.poses ?? [];
  const bar = $("poses");
  bar.hidden = names.length < 2;
  if (bar.dataset.names !== names.join()) {
    bar.dataset.names = names.join();
    bar.replaceChildren(...names.map(button));
  }
  for (const made of bar.children) made.setAttribute("aria-pressed", String(made.textContent === session?.pose));
}

function button(name) {
  const made = element("button", { type: "button", textContent: name });
  made.addEventListener("click", () => poses.onChoose(name));
  return made;
}
