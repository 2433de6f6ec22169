// One session that this page watches: its player, and what the service tells of it.
import { ask, postJson, request, upload } from "./api.js";
import { Badge } from "./badge.js";
import { $ } from "./dom.js";
import { Events } from "./events.js";
import { Player } from "./player.js";
import { WebRtcPlayer } from "./webrtc.js";

const TICK = 250; // milliseconds between looks at the player
const TURNS = { speech: "answers in", interruption: "silent in" };
const UPLOAD = 150_000; // milliseconds that a clip may take

export class Session {
  // `onEnd` is told once, in words if it was an error; `onNotice` what else there is to say; `onRefused` if the browser
  // wants a click before it plays; `onPose` gets the name of a pose when it begins.
  // For a `conversation` frames are made no earlier than they are shown.
  static async begin({ avatar, bundle, conversation = false }, handlers) {
    const wanted = { avatar, bundle, ...(conversation && WebRtcPlayer.supported && { lead: 0 }) };
    return new Session(await postJson("v1/sessions", wanted), true, handlers, conversation);
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

  constructor(answer, own, { onEnd, onNotice, onRefused, onPose = () => {} }, conversation = false) {
    Object.assign(this, { ...answer, own, onEnd, onNotice, onRefused, onPose, conversation });
    Object.assign(this, { closed: false, told: {}, turns: {} });
    this.path = `v1/sessions/${encodeURIComponent(answer.id)}`;
    this.badge = new Badge(answer.state, answer.generated);
    this.player = conversation ? this.#playLive() : this.#playStream();
    this.notices = new Events(answer.events, {
      handlers: {
        state: (told) => this.#move(told),
        buffer: (told) => this.#hear(told),
        rate: ({ fps }) => (this.fps = fps),
        warning: ({ message }) => this.onNotice(message),
        interrupted: ({ at }) => this.player.skip(at),
        pose: ({ pose }) => this.onPose((this.pose = pose)),
        turn: (told) => this.#time(told),
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

  // Go over to the pose of that name: once, and then to the first again.
  changePose = (name) => postJson(`${this.path}/pose`, { name });

  // One of its addresses, as it is good now: those that carry their own permission expire.
  address = async (name) => (await ask(this.path))[name];

  // The mouth stops now; playback goes on where it is closed.
  async interrupt() {
    if (!this.player.live) $("video").pause();
    try {
      this.player.skip((await ask(`${this.path}/interrupt`, { method: "POST" })).at);
    } finally {
      if (!this.player.stream) $("video").play().catch(() => {});
    }
  }

  // From now on somebody speaks with the face (`on`), or no more: by WebRTC, where that gets through.
  converse(on) {
    this.conversation = on;
    if (on && !this.player.live && !this.unreachable) this.#replace(() => this.#playLive());
    this.player.edge.conversation = on;
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

  // By WebRTC where the service and the browser can, else as a stream.
  #playLive() {
    if (!this.whep || !WebRtcPlayer.supported) return this.#playStream();
    return new WebRtcPlayer($("video"), this, {
      onAgain: () => {
        this.onNotice("The connection was lost and is made anew");
        this.#show();
      },
      onLost: (reason) => this.#fallBack(reason),
      onError: (text) => this.close(text),
      onEnd: () => this.close(),
      onRefused: this.onRefused,
      renew: () => this.address("whep"),
    });
  }

  #playStream() {
    const player = new Player($("video"), this.stream, {
      onError: (text) => this.close(text),
      onEnd: () => this.close(),
      onRefused: this.onRefused,
      renew: () => this.address("stream"),
    });
    player.edge.conversation = this.conversation;
    return player;
  }

  #fallBack(reason) {
    if (this.closed) return;
    this.unreachable = true;
    this.onNotice("WebRTC does not get through: the face is seen a little later, over HTTP");
    console.info(`WebRTC: ${reason}`);
    this.#replace(() => this.#playStream());
  }

  #replace(play) {
    this.player.close();
    this.player = play();
    this.player.edge.hear(this.told);
    this.#show();
  }

  // How long a turn took until its frame was sent, and until it was seen.
  async #time({ what, at, seconds }) {
    const told = performance.now();
    this.turns[what] = { sent: seconds };
    const seen = await this.player.seen(at);
    this.turns[what] = { sent: seconds, seen: seconds + (seen - told) / 1000 };
    this.#show();
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
    const parts = [player.live ? "WebRTC" : "HTTP", `buffer ${player.buffered.toFixed(player.live ? 2 : 1)} s`];
    if (told.generated && !player.live) parts.push(`${player.edge.behind(video.currentTime).toFixed(1)} s behind live`);
    if (told.generated) parts.push(`${Math.round(this.fps)} fps`);
    if (told.queued) parts.push(`${told.queued.toFixed(1)} s to say`);
    if (told.viewers > 1) parts.push(`${told.viewers} watch`);
    if (player.reconnections) parts.push(`${player.reconnections} reconnected`);
    for (const [what, name] of Object.entries(TURNS)) {
      const { sent, seen } = this.turns[what] ?? {};
      if (sent !== undefined) parts.push(`${name} ${sent.toFixed(2)} s${seen ? `, seen ${seen.toFixed(2)} s` : ""}`);
    }
    $("figures").textContent = parts.join("  ·  ");
  }
}
