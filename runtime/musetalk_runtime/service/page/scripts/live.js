// Speech as it is spoken, from the microphone to a session. A connection that drops is made again.
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
  // `address` gives the session's for speech, as it is good now. `onLevel` gets the loudness, `onEnd` is told once, in
  // words if something is wrong.
  static async open(address, { onLevel, onEnd }) {
    const made = new Live();
    Object.assign(made, { address, onLevel, onEnd, failures: 0, heard: false, closed: false });
    made.microphone = await Microphone.open({
      onPcm: (piece) => made.#send(piece),
      onEnd: () => made.close("The microphone went away."),
    });
    made.#connect();
    return made;
  }

  close(error = "") {
    if (this.closed) return;
    this.closed = true;
    this.microphone.close();
    this.socket?.close();
    this.onEnd(error);
  }

  async #connect() {
    try {
      const url = new URL(await this.address(), document.baseURI);
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
