// One session that this page watches: its player, and what the service tells of it.
import { ask, postJson, request, upload } from "./api.js";
import { Badge } from "./badge.js";
import { $ } from "./dom.js";
import { Events } from "./events.js";
import { Player } from "./player.js";

const TICK = 250; // milliseconds between looks at the player
const UPLOAD = 150_000; // milliseconds that a clip may take

export class Session {
  // `onEnd` is told once, in words if it was an error; `onNotice` what else there is to say; `onRefused` if the browser
  // wants a click before it plays.
  static async begin({ avatar, bundle }, handlers) {
    return new Session(await postJson("v1/sessions", { avatar, bundle }), true, handlers);
  }

  // One that says a file first: a file that is no speech begins none. `onProgress` gets the share that is sent.
  static async beginWith(file, { avatar, bundle }, handlers, onProgress) {
    const query = new URLSearchParams({ avatar, then: "listen", ...(bundle && { bundle }) });
    const sent = upload(`v1/sessions/audio?${query}`, file, { onProgress, signal: AbortSignal.timeout(UPLOAD) });
    return new Session(await sent, true, handlers);
  }

  static async join(id, handlers) {
    return new Session(await ask(`v1/sessions/${encodeURIComponent(id)}`), false, handlers);
  }

  constructor(answer, own, { onEnd, onNotice, onRefused }) {
    Object.assign(this, { ...answer, own, onEnd, onNotice, closed: false, told: {} });
    this.path = `v1/sessions/${encodeURIComponent(answer.id)}`;
    this.badge = new Badge(answer.state, answer.generated);
    this.player = new Player($("video"), answer.stream, {
      onError: (text) => this.close(text),
      onEnd: () => this.close(),
      onRefused,
      renew: () => this.address("stream"),
    });
    this.notices = new Events(answer.events, {
      handlers: {
        state: (told) => this.#move(told),
        buffer: (told) => this.#hear(told),
        rate: ({ fps }) => (this.fps = fps),
        warning: ({ message }) => this.onNotice(message),
        interrupted: ({ at }) => this.player.skip(at),
      },
      renew: () => this.address("events"),
      onLost: () => {}, // the player finds out too, at its end
    });
    this.ticking = setInterval(() => this.#show(), TICK);
    this.#show();
    for (const message of answer.warnings) this.onNotice(message);
  }

  say = (file) => ask(`${this.path}/audio`, { method: "POST", body: file, signal: AbortSignal.timeout(UPLOAD) });

  sayText = (text) => postJson(`${this.path}/text`, { text });

  // One of its addresses, as it is good now: those that carry their own permission expire.
  address = async (name) => (await ask(this.path))[name];

  // The mouth stops now; playback goes on where it is closed.
  async interrupt() {
    $("video").pause();
    try {
      this.player.skip((await ask(`${this.path}/interrupt`, { method: "POST" })).at);
    } finally {
      if (!this.player.stream) $("video").play().catch(() => {});
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
    this.badge.clear();
    this.onEnd(error);
  }

  #move({ state, at, error }) {
    this.state = state;
    this.badge.hear(state, at);
    if (state === "ended" || state === "failed") {
      this.notices.close();
      this.player.edge.end();
    }
    if (state === "failed") this.close(error ?? "The session failed.");
    else this.#show();
  }

  #hear(told) {
    this.told = told;
    this.player.edge.hear(told);
    this.#show();
  }

  #show() {
    if (this.closed) return;
    const { player, told } = this;
    const video = $("video");
    this.badge.show({ video, player });
    const parts = [`buffer ${player.buffered.toFixed(1)} s`];
    if (told.generated) parts.push(`${player.edge.behind(video.currentTime).toFixed(1)} s behind live`, `${Math.round(this.fps)} fps`);
    if (told.queued) parts.push(`${told.queued.toFixed(1)} s to say`);
    if (told.viewers > 1) parts.push(`${told.viewers} watch`);
    if (player.reconnections) parts.push(`${player.reconnections} reconnected`);
    $("figures").textContent = parts.join("  ·  ");
  }
}
