// Server-sent events that go on after a connection was lost, or refused by a proxy whose server was away.
import { passes } from "./api.js";

const WAITS = [0.3, 0.6, 1, 2, 4]; // seconds before a reconnection, by how many have failed
const PATIENCE = 15; // reconnections that fail, one after the other

export class Events {
  // `handlers`, by the name of an event, get what it holds. `renew` gives the address anew, since one that carries its
  // own permission expires; `onLost` is told once, in words, if there is none any more.
  constructor(address, { handlers, renew, onLost }) {
    Object.assign(this, { handlers, renew, onLost, failures: 0, closed: false });
    this.#open(address);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.source.close();
  }

  #open(address) {
    const source = (this.source = new EventSource(address));
    for (const [name, handle] of Object.entries(this.handlers)) {
      source.addEventListener(name, ({ data }) => {
        this.failures = 0;
        handle(JSON.parse(data));
      });
    }
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) this.#again(); // else the browser connects again by itself
    };
  }

  #again() {
    if (this.closed) return;
    this.timer = setTimeout(() => this.#renew(), WAITS[Math.min(this.failures++, WAITS.length - 1)] * 1000);
  }

  async #renew() {
    try {
      const address = await this.renew();
      if (!this.closed) this.#open(address);
    } catch (error) {
      if (passes(error) && this.failures < PATIENCE) return this.#again();
      if (!this.closed) this.onLost(error.message);
      this.close();
    }
  }
}
