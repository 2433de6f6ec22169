// The text box: what is written in it, the face says.
import { $, enable, sentence } from "./dom.js";

let most = 0; // characters

// Show the box, or how this service gets one.
export function offerText({ text_characters: characters, no_text: reason }) {
  most = characters;
  $("text").hidden = $("say-text").hidden = !most;
  $("no-text").hidden = Boolean(most);
  $("no-text").textContent = most ? "" : sentence(reason);
}

let free = false;

export function enableText(on) {
  free = on;
  enable($("say-text"), free && Boolean($("text").value.trim()));
}

// The text that is to be said.
export function words() {
  const text = $("text").value.trim();
  if (text.length > most) throw new Error(`The text has ${text.length} characters: ${most} may be sent at once.`);
  return text;
}

export const told = ({ sentences }) => `It says ${sentences === 1 ? "one sentence" : `${sentences} sentences`}.`;

$("text").addEventListener("input", () => enableText(free));
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("say-text").click();
});
