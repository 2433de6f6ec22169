// Speech as it is spoken, from the microphone to a session: by WebRTC where that plays it, else over a WebSocket. A
// connection that drops is made again.
import { passes } from "./api.js";
import { loudness, Microphone } from "./microphone.js";

const WAITING = 64000; // bytes that may wait in the browser: 2 s; what is spoken then is left out
const STUCK = 5000; // milliseconds for which they may, before the connection is taken for dead
const WAITS = [0.3, 0.6, 1, 2, 4]; // seconds before a reconnection
const PATIENCE = 8; // reconnections that fail, one after the other
const STEADY = 3000; // milliseconds after which one has not
const ENDED = 1001;
const PASSING = [1006, 1012]; // it was cut, or could not be made
const REFUSED = 1008; // as for a second voice, which may be what the service still takes for the lost connection

export class Live {
  // To `session`. `onLevel` gets the loudness, `onEnd` is told once, in words if something is wrong.
  static async open(session, { onLevel, onEnd }) {
    const made = new Live();
    Object.assign(made, { session, onLevel, onEnd, failures: 0, heard: false, closed: false, player: null });
    made.microphone = await Microphone.open({
      onPcm: (piece) => made.#send(piece),
      onEnd: () => made.close("The microphone went away."),
    });
    if (!made.#goesByWebRtc()) made.#connect();
    return made;
  }

  close(error = "") {
    if (this.closed) return;
    this.closed = true;
    this.player?.speak(null);
    this.microphone.close();
    this.socket?.close();
    this.onEnd(error);
  }

  // Whether the connection that plays the session takes the microphone; one that falls back to a stream does no more.
  #goesByWebRtc() {
    const { player } = this.session;
    if (player.live && player !== this.player) {
      const { socket } = this;
      Object.assign(this, { player, socket: null });
      socket?.close();
      player.speak(this.microphone.track);
    } else if (!player.live && this.player) {
      this.player = null;
      this.#connect();
    }
    return player.live;
  }

  async #connect() {
    try {
      const url = new URL(await this.session.address("audio"), document.baseURI);
      url.protocol = url.protocol.replace("http", "ws");
      if (!this.closed) this.#open(url);
    } catch (error) {
      if (passes(error)) this.#again();
      else this.close(error.message);
    }
  }

  #open(url) {
    const socket = (this.socket = new WebSocket(url));
    let opened = Infinity;
    socket.onopen = () => (opened = performance.now());
    socket.onclose = ({ code, reason }) => {
      if (this.closed || socket !== this.socket) return;
      if (performance.now() - opened > STEADY) [this.failures, this.heard] = [0, true];
      if (code === ENDED) this.close("");
      else if (PASSING.includes(code) || (code === REFUSED && this.heard && this.failures < PATIENCE)) this.#again();
      else this.close(`The service hears no more: ${reason || code}.`);
    };
  }

  #again() {
    if (this.closed) return;
    if (this.failures >= PATIENCE) return this.close("The connection for your voice is lost.");
    setTimeout(() => this.closed || this.#connect(), WAITS[Math.min(this.failures++, WAITS.length - 1)] * 1000);
  }

  #send(piece) {
    this.onLevel(loudness(piece));
    if (this.#goesByWebRtc()) return;
    const { socket } = this;
    if (socket?.readyState !== WebSocket.OPEN) return;
    if (socket.bufferedAmount < WAITING) {
      this.stuck = null;
      return socket.send(piece.buffer);
    }
    this.stuck ??= performance.now();
    if (performance.now() - this.stuck < STUCK) return;
    [this.socket, this.stuck, this.heard] = [null, null, true];
    socket.close();
    this.#again();
  }
}
