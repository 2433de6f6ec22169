// Plays a session's stream by Media Source Extensions: comes back where it was when the connection drops, and never
// goes back in time. Without MSE the browser plays the address itself.
import { failure, passes, request } from "./api.js";

const KEPT = 10; // seconds held behind the playhead
const WAITS = [0.2, 0.5, 1, 2, 4]; // seconds before a reconnection, by how many have failed
const PATIENCE = 60; // seconds without a byte after which it gives up
const SILENCE = 8; // seconds without a byte after which a connection is taken for dead
const FIRST = 30; // and before its first
const TAIL = 0.4; // seconds before a gap where playback may stall
const AWAY = 4; // seconds for which a tab was stopped after which it leaves out what it has missed
const CLOSE = 0.9; // seconds of buffer that a conversation may have
const HURRY = 1.06; // how fast it plays when it has more

const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
const once = (target, event) => new Promise((done) => target.addEventListener(event, done, { once: true }));

export class Player {
  // `onError` is told in words, `onEnd` when the stream is over; `renew` gives the address anew; `onRefused` may help
  // where the browser wants a click before it plays. `reconnections` counts. While `hurried`, it plays a little faster
  // until it is close to what is made.
  constructor(video, url, { onError, onEnd, onRefused, renew }) {
    Object.assign(this, { video, url, onError, onEnd, onRefused, renew, reconnections: 0, position: null, closed: false, skipTo: null });
    this.hurried = false;
    this.connected = false;
    this.awake = new AbortController();
    document.addEventListener("freeze", () => (this.frozen = true), { signal: this.awake.signal });
    for (const name of ["visibilitychange", "resume"]) {
      document.addEventListener(name, () => this.#wake(), { signal: this.awake.signal });
    }
    const Source = self.MediaSource ?? self.ManagedMediaSource;
    if (Source) this.#playSource(new Source());
    else this.#playAddress();
  }

  get buffered() {
    const { buffered, currentTime } = this.video;
    const end = buffered.length ? buffered.end(buffered.length - 1) : 0;
    return Math.max(0, end - currentTime);
  }

  // Stop now, and go on from `seconds` of the stream as soon as it is there: what lies between is not shown.
  skip(seconds) {
    if (!this.source || this.over) return;
    if (this.video.currentTime < seconds) this.video.pause();
    this.skipTo = seconds;
    this.#steer();
  }

  close() {
    this.closed = true;
    this.connection?.abort();
    this.awake.abort();
    this.video.onerror = this.video.onended = null;
    this.video.removeAttribute("src");
    this.video.load();
    if (this.address) URL.revokeObjectURL(this.address);
  }

  #playAddress() {
    const { video } = this;
    this.connected = true;
    video.src = this.url;
    video.onplaying = () => ([this.played, this.lost] = [true, null]);
    video.onended = () => this.onEnd();
    video.onerror = () => this.#playAddressAgain();
    video.play().catch((error) => this.#refused(error));
  }

  // From the newest frames on.
  async #playAddressAgain() {
    this.lost ??= performance.now();
    if (!this.played) return this.#fail("The browser cannot play this stream.");
    if (performance.now() - this.lost > PATIENCE * 1000) return this.#fail("The connection is lost.");
    this.connected = false;
    this.reconnections++;
    await sleep(1);
    try {
      this.url = await this.renew();
    } catch (error) {
      if (!passes(error)) return this.#fail(error.message);
    }
    if (!this.closed) this.#playAddress();
  }

  async #playSource(source) {
    this.source = source;
    this.address = URL.createObjectURL(source);
    this.video.disableRemotePlayback = true;
    this.video.src = this.address;
    this.video.onerror = () => this.closed || this.#fail(`The video cannot be decoded: ${this.video.error?.message}`);
    try {
      await once(source, "sourceopen");
      await this.#follow();
      if (source.readyState === "open") source.endOfStream();
      this.over = true;
      if (this.skipTo !== null) this.#play();
      if (!this.video.ended) await once(this.video, "ended");
      if (!this.closed) this.onEnd();
    } catch (error) {
      this.#fail(error.message);
    }
  }

  // Read to the end of the stream, over as many connections as it takes.
  async #follow() {
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
    if (this.away && this.buffer) this.buffer.abort();
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
    let init = this.position === null ? Number(answer.headers.get("Stream-Init")) : 0;
    let head = new Uint8Array();
    if (this.position === null) this.position = Number(answer.headers.get("Stream-Offset"));
    this.connected = true;
    for (;;) {
      this.#expect(SILENCE);
      const { done, value } = await reader.read();
      this.heardAt = performance.now();
      if (done) return true;
      let data = value;
      if (head.length < init) {
        head = join(head, value);
        if (head.length < init) continue;
        data = head.subarray(init);
        await this.#begin(head.subarray(0, init));
      }
      if (data.length) await this.#append(data);
      if (this.away) return false;
      this.position += data.length;
    }
  }

  // End the connection unless bytes come within `seconds`.
  #expect(seconds) {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.connection.abort(), seconds * 1000);
  }

  async #begin(init) {
    const type = `video/mp4; codecs="${codec(init)}, mp4a.40.2"`;
    if (!this.buffer) {
      if (!this.source.constructor.isTypeSupported(type)) throw Object.assign(new Error(`The browser cannot play ${type}.`), { final: true });
      this.buffer = this.source.addSourceBuffer(type);
    }
    await this.#append(init);
  }

  async #append(data) {
    try {
      this.buffer.appendBuffer(data);
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw Object.assign(error, { final: true });
      await sleep(1);
      await this.#forget(1);
      return this.#append(data);
    }
    await once(this.buffer, "updateend");
    await this.#forget(KEPT);
    this.#steer();
  }

  async #forget(kept) {
    const { buffered, currentTime } = this.video;
    if (!buffered.length || buffered.start(0) >= currentTime - 2 * kept) return;
    this.buffer.remove(0, currentTime - kept);
    await once(this.buffer, "updateend");
  }

  // Begin, leap over a gap, or skip: forward only.
  #steer() {
    const { video } = this;
    const ranges = Array.from({ length: video.buffered.length }, (_, n) => [video.buffered.start(n), video.buffered.end(n)]);
    if (!ranges.length) return;
    const end = ranges.at(-1)[1];
    if (this.skipTo !== null && end > this.skipTo + 0.05) {
      if (video.currentTime < this.skipTo) video.currentTime = this.skipTo;
      this.skipTo = null;
      this.#play();
    }
    const tail = video.readyState < HTMLMediaElement.HAVE_FUTURE_DATA ? TAIL : 0.05; // sound and picture end apart
    const inside = ranges.some(([low, high]) => low <= video.currentTime && video.currentTime < high - tail);
    const next = ranges.find(([low]) => low > video.currentTime);
    if (!inside && next) video.currentTime = next[0];
    const rate = this.hurried && this.buffered > CLOSE ? HURRY : 1;
    if (video.playbackRate !== rate) video.playbackRate = rate;
    if (video.paused && !this.started) {
      this.started = true;
      this.#play();
    }
  }

  // The tab was hidden, and perhaps stopped: go on, with what is made now if that was long ago.
  #wake() {
    if (document.hidden || this.closed || !this.started) return;
    const silent = (performance.now() - this.heardAt) / 1000;
    if (this.connected && this.frozen) {
      if (silent > AWAY) this.#forgetPlace();
      this.connection.abort(); // Chromium gives it no more bytes
    }
    this.frozen = false;
    if (this.video.paused && this.skipTo === null) this.#play();
  }

  // Join again, at the newest keyframe.
  #forgetPlace() {
    this.position = null;
    this.away = true;
  }

  #play() {
    this.video.play().catch((error) => this.#refused(error));
  }

  #refused(error) {
    if (error.name !== "NotAllowedError") return;
    if (this.onRefused) this.onRefused();
    else this.#fail("The browser wants a click before it plays: press Play.");
  }

  #fail(message) {
    if (this.closed) return;
    this.onError(message);
  }
}

function join(a, b) {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

// The video's codec as MSE wants it, from the avcC box: profile, constraints and level in hexadecimal.
function codec(init) {
  for (let at = 0; at < init.length - 8; at++) {
    if (init[at] === 0x61 && init[at + 1] === 0x76 && init[at + 2] === 0x63 && init[at + 3] === 0x43) {
      return "avc1." + Array.from(init.subarray(at + 5, at + 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
    }
  }
  throw Object.assign(new Error("The stream has no video the browser can play."), { final: true });
}
