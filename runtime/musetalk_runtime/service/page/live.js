// Speech as it is spoken, from the microphone to a session. A connection that drops is made again.
import { loudness, Microphone } from "./microphone.js";

const WAITING = 64000; // bytes that may wait in the browser: 2 s; what is spoken then is left out
const WAITS = [0.3, 0.6, 1, 2, 4]; // seconds before a reconnection
const PATIENCE = 6; // reconnections that fail, one after the other

export class Live {
  // `onLevel` gets the loudness, `onEnd` is told once, in words if something is wrong.
  static async open(address, { onLevel, onEnd }) {
    const made = new Live();
    Object.assign(made, { onLevel, onEnd, failures: 0, closed: false });
    made.url = new URL(address, document.baseURI);
    made.url.protocol = made.url.protocol.replace("http", "ws");
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

  #connect() {
    const socket = (this.socket = new WebSocket(this.url));
    socket.onopen = () => (this.failures = 0);
    socket.onclose = ({ code, reason }) => {
      if (this.closed) return;
      if (code === 1001) this.close("");
      else if (code !== 1006 && code !== 1012) this.close(`The service hears no more: ${reason || code}.`);
      else if (this.failures >= PATIENCE) this.close("The connection for your voice is lost.");
      else setTimeout(() => this.closed || this.#connect(), WAITS[Math.min(this.failures++, WAITS.length - 1)] * 1000);
    };
  }

  #send(piece) {
    this.onLevel(loudness(piece));
    const { readyState, bufferedAmount } = this.socket ?? {};
    if (readyState === WebSocket.OPEN && bufferedAmount < WAITING) this.socket.send(piece.buffer);
  }
}
