// A place in a service that is full: it is asked for again and again, until there is one or the person cancels.
import { $, sentence } from "./dom.js";

const FULL = ["no_capacity", "too_many_sessions", "too_many_uploads"];
const SOON = 5; // seconds, where the service names none

// What `begin` gives, once it is not refused for want of a place.
export async function placed(begin) {
  for (;;) {
    try {
      return await begin();
    } catch (error) {
      if (!FULL.includes(error.code)) throw error;
      await countDown(error.message, error.retryAfter || SOON);
    }
  }
}

function countDown(reason, seconds) {
  $("wait-reason").textContent = `Waiting for a free place. ${sentence(reason)}`;
  $("wait").hidden = false;
  return new Promise((done, fail) => {
    const settle = (action) => {
      clearInterval(ticking);
      $("wait-cancel").onclick = null;
      $("wait").hidden = true;
      action();
    };
    const tick = () => {
      $("wait-next").textContent = `Next try in ${seconds} s`;
      if (seconds-- <= 0) settle(done);
    };
    const ticking = setInterval(tick, 1000);
    $("wait-cancel").onclick = () => {
      settle(() => fail(new DOMException("", "AbortError")));
      $("play").focus();
    };
    tick();
  });
}
