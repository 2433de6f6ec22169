// A passing remark of the service, under the picture: cleared after a while.
import { $, sentence } from "./dom.js";

const SHOWN = 8000; // milliseconds
let clearing = null;

export function notice(text) {
  clearTimeout(clearing);
  $("notice").textContent = sentence(text);
  clearing = setTimeout(() => ($("notice").textContent = ""), SHOWN);
}
