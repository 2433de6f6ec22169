// The badge on the stage: what is seen now.
import { $ } from "./dom.js";

const STATES = { starting: "Starting", idle: "Listening", speaking: "Speaking" };

export class Badge {
  // States are told when they are generated, and seen later: `at` is the second of the stream.
  constructor(state, at) {
    this.told = [{ state, at }];
  }

  hear(state, at) {
    this.told.push({ state, at, heard: performance.now() });
  }

  show({ video, player }) {
    const [name, text] = this.#seen(video, player);
    $("state").textContent = text;
    $("state").dataset.state = name;
  }

  clear() {
    $("state").textContent = "";
    $("state").dataset.state = "off";
  }

  #seen(video, { connected, over, edge, live, buffered, reconnections }) {
    if (video.paused && video.currentTime > 0 && !video.ended) return ["paused", "Paused"];
    if (!connected && (video.currentTime > 0 || reconnections) && !over) return ["waits", "Reconnecting"];
    if (video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA && !video.ended) return ["waits", "Loading"];
    if (edge.hurries) return ["waits", "Catching up"];
    const heard = performance.now() - 1000 * buffered; // by WebRTC what is told then is seen now
    const shown = (told) => (live ? told.heard <= heard : told.at <= video.currentTime);
    while (this.told.length > 1 && shown(this.told[1])) this.told.shift();
    const { state } = this.told[0];
    return [state, STATES[state] ?? "Ending"];
  }
}
