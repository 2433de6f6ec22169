// The bytes of a session's stream, over as many connections as it takes: each goes on where the last one ended.
import { failure, passes, request } from "./api.js";
import { sleep } from "./promises.js";

const WAITS = [0.2, 0.5, 1, 2, 4]; // seconds before a reconnection, by how many have failed
const PATIENCE = 60; // seconds without a byte after which it gives up
const SILENCE = 8; // seconds without a byte after which a connection is taken for dead
const FIRST = 30; // and before its first
const AWAY = 4; // seconds for which a tab was stopped after which it leaves out what it has missed

export class Stream {
  // `onHead` gets the stream's head, and `onData` what follows; both are waited for. `onJoin` is told that what comes
  // next does not follow. `reconnections` counts.
  constructor(url, { onHead, onData, onJoin }) {
    Object.assign(this, { url, onHead, onData, onJoin, reconnections: 0, position: null, connected: false, closed: false });
  }

  close() {
    this.closed = true;
    this.connection?.abort();
  }

  // The tab was stopped: connect again, and join at what is made now if that was long ago.
  thaw() {
    if (!this.connected) return;
    if ((performance.now() - this.heardAt) / 1000 > AWAY) this.#forgetPlace();
    this.connection.abort(); // Chromium gives it no more bytes
  }

  // Read to the end; raises why it is lost.
  async read() {
    let failures = 0;
    let heard = performance.now();
    while (!this.closed) {
      const before = this.position;
      try {
        if (await this.#connect()) return;
      } catch (error) {
        if (error.final) throw error;
      } finally {
        clearTimeout(this.watch);
        this.connected = false;
      }
      if (this.closed) return;
      if (this.position !== before) [failures, heard] = [0, performance.now()];
      if (performance.now() - heard > PATIENCE * 1000) throw new Error("The connection is lost.");
      await sleep(WAITS[Math.min(failures++, WAITS.length - 1)]);
      this.reconnections++;
    }
  }

  // One connection, from where the last one ended; true at the end of the stream.
  async #connect() {
    if (this.away) this.onJoin();
    this.away = false;
    const headers = this.position === null ? {} : { Range: `bytes=${this.position}-` };
    const url = `${this.url}${this.url.includes("?") ? "&" : "?"}slow=end`;
    this.connection = new AbortController();
    this.#expect(FIRST);
    const answer = await request(url, { headers, signal: this.connection.signal });
    if (answer.status === 416) {
      this.#forgetPlace(); // it is no longer held
      return false;
    }
    if (!answer.ok) {
      const error = await failure(answer);
      throw Object.assign(error, { final: !passes(error) });
    }
    const reader = answer.body.getReader();
    const size = this.position === null ? Number(answer.headers.get("Stream-Init")) : 0;
    let head = new Uint8Array();
    if (this.position === null) this.position = Number(answer.headers.get("Stream-Offset"));
    this.connected = true;
    for (;;) {
      this.#expect(SILENCE);
      const { done, value } = await reader.read();
      this.heardAt = performance.now();
      if (done) return true;
      let data = value;
      if (head.length < size) {
        head = join(head, value);
        if (head.length < size) continue;
        data = head.subarray(size);
        await this.onHead(head.subarray(0, size));
      }
      if (data.length) await this.onData(data);
      if (this.away) return false;
      this.position += data.length;
    }
  }

  // End the connection unless bytes come within `seconds`.
  #expect(seconds) {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.connection.abort(), seconds * 1000);
  }

  // Join again, at the newest keyframe.
  #forgetPlace() {
    this.position = null;
    this.away = true;
  }
}

function join(a, b) {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
