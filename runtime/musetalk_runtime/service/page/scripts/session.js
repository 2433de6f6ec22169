// One session that this page watches: its player, and what the service tells of it.
import { ask, postJson, request } from "./api.js";
import { $ } from "./dom.js";
import { Events } from "./events.js";
import { Player } from "./player.js";

const STATES = { starting: "Starting", idle: "Listening", speaking: "Speaking" };
const TICK = 500; // milliseconds between looks at the player
const UPLOAD = 150_000; // milliseconds that a clip may take

export class Session {
  // `onEnd` is told once, in words if it was an error; `onNotice` what else there is to say.
  static async begin({ name, bundles: [bundle] }, handlers) {
    return new Session(await postJson("v1/sessions", { avatar: name, bundle }), true, handlers);
  }

  static async join(id, handlers) {
    return new Session(await ask(`v1/sessions/${encodeURIComponent(id)}`), false, handlers);
  }

  constructor(answer, own, { onEnd, onNotice, onRefused }) {
    Object.assign(this, { ...answer, own, onEnd, onNotice, closed: false, told: {} });
    this.path = `v1/sessions/${encodeURIComponent(answer.id)}`;
    this.player = new Player($("video"), answer.stream, {
      onError: (text) => this.close(text),
      onEnd: () => this.close(),
      onRefused,
      renew: () => this.address("stream"),
    });
    this.notices = new Events(answer.events, {
      handlers: {
        state: ({ state, error }) => this.#move(state, error),
        buffer: (told) => this.#hear(told),
        warning: ({ message }) => this.onNotice(message),
        interrupted: ({ at }) => this.player.skip(at),
      },
      renew: () => this.address("events"),
      onLost: () => {}, // the player finds out too, at its end
    });
    this.ticking = setInterval(() => this.#show(), TICK);
    this.#show();
  }

  say = (file) => ask(`${this.path}/audio`, { method: "POST", body: file, signal: AbortSignal.timeout(UPLOAD) });

  // One of its addresses, as it is good now: those that carry their own permission expire.
  address = async (name) => (await ask(this.path))[name];

  // The mouth stops now; playback goes on where it is closed.
  async interrupt() {
    $("video").pause();
    try {
      this.player.skip((await ask(`${this.path}/interrupt`, { method: "POST" })).at);
    } finally {
      if (!this.player.source) $("video").play().catch(() => {});
    }
  }

  close(error = "") {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.ticking);
    this.notices.close();
    this.player.close();
    if (this.own) request(this.path, { method: "DELETE", keepalive: true }).catch(() => {});
    $("figures").textContent = "";
    $("state").textContent = "";
    $("state").dataset.state = "off";
    this.onEnd(error);
  }

  #move(state, error) {
    this.state = state;
    if (state === "ended" || state === "failed") this.notices.close();
    if (state === "failed") this.close(error ?? "The session failed.");
    else this.#show();
  }

  // How far playback is behind what is made, and what waits.
  #hear(told) {
    this.told = { ...told, latency: Math.max(0, told.generated - $("video").currentTime) };
    this.#show();
  }

  #show() {
    if (this.closed) return;
    const { buffered, reconnections, connected } = this.player;
    const [video, { latency, queued, viewers }] = [$("video"), this.told];
    const waits = video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA;
    const lost = !connected && video.currentTime > 0 && !this.player.over;
    $("state").textContent = lost ? "Reconnecting" : waits ? "Loading" : (STATES[this.state] ?? "Ending");
    $("state").dataset.state = lost || waits ? "waits" : this.state;
    const parts = [`buffer ${buffered.toFixed(1)} s`];
    if (latency !== undefined) parts.push(`latency ${latency.toFixed(1)} s`, `${Math.round(this.fps)} fps`);
    if (queued) parts.push(`${queued.toFixed(1)} s to say`);
    if (viewers > 1) parts.push(`${viewers} watch`);
    if (reconnections) parts.push(`${reconnections} reconnected`);
    $("figures").textContent = parts.join("  ·  ");
  }
}
