// Plays a session's stream near its live edge, and never goes back in time: by Media Source Extensions, or without them
// the browser plays the address itself.
import { passes } from "./api.js";
import { LiveEdge } from "./live_edge.js";
import { MediaBuffer } from "./media_buffer.js";
import { once, sleep } from "./promises.js";
import { Stream } from "./stream.js";

const TICK = 250; // milliseconds between looks at the video
const TAIL = 0.4; // seconds before a gap where playback may stall
const STALL = 1; // seconds for which the picture stands still, with as much in the buffer, before it is nudged
const NUDGE = 0.1; // seconds
const PAUSE = 1; // seconds behind the live edge from which playback leaps to it after a pause
const PATIENCE = 60; // seconds for which an address that broke off is tried again

export class Player {
  // `onError` is told in words, `onEnd` when the stream is over; `renew` gives the address anew; `onRefused` may help
  // where the browser wants a click before it plays. `edge` is to be told where the live edge is.
  constructor(video, url, { onError, onEnd, onRefused, renew }) {
    Object.assign(this, { video, url, onError, onEnd, onRefused, renew, closed: false, skipTo: null });
    this.edge = new LiveEdge();
    this.awake = new AbortController();
    const { signal } = this.awake;
    document.addEventListener("freeze", () => this.#sleep(true), { signal });
    document.addEventListener("visibilitychange", () => (document.hidden ? this.#sleep() : this.#wake()), { signal });
    document.addEventListener("resume", () => this.#wake(), { signal });
    if (MediaBuffer.supported) this.#playStream(signal);
    else this.#playAddress();
  }

  get buffered() {
    const { buffered, currentTime } = this.video;
    const end = buffered.length ? buffered.end(buffered.length - 1) : 0;
    return Math.max(0, end - currentTime);
  }

  get connected() {
    return this.stream ? this.stream.connected : !this.lost;
  }

  get reconnections() {
    return this.stream?.reconnections ?? 0;
  }

  // Stop now, and go on from `seconds` of the stream as soon as it is there: what lies between is not shown.
  skip(seconds) {
    if (!this.stream || this.over) return;
    if (this.video.currentTime < seconds) this.video.pause();
    this.skipTo = seconds;
    this.#steer();
  }

  // When the frame at `seconds` of the stream is shown, by performance.now.
  seen(seconds) {
    return new Promise((done) => {
      const look = (_, { mediaTime, expectedDisplayTime }) => {
        if (mediaTime >= seconds - 0.02) done(expectedDisplayTime);
        else if (!this.closed) this.video.requestVideoFrameCallback(look);
      };
      this.video.requestVideoFrameCallback?.(look);
    });
  }

  close() {
    this.closed = true;
    this.stream?.close();
    this.awake.abort();
    clearInterval(this.ticking);
    const { video } = this;
    video.onerror = video.onended = video.onplaying = video.onplay = video.onpause = null;
    video.playbackRate = 1;
    video.removeAttribute("src");
    video.load();
    this.media?.close();
  }

  #playAddress() {
    const { video } = this;
    let paused = Infinity;
    video.src = this.url;
    video.onplaying = () => ([this.played, this.lost] = [true, null]);
    video.onpause = () => (paused = performance.now());
    video.onplay = () => performance.now() - paused > PAUSE * 1000 && this.#playAddress(); // from what is live
    video.onended = () => this.onEnd();
    video.onerror = () => this.#playAddressAgain();
    this.#play();
  }

  // From the newest frames on.
  async #playAddressAgain() {
    this.lost ??= performance.now();
    if (!this.played) return this.#fail("The browser cannot play this stream.");
    if (performance.now() - this.lost > PATIENCE * 1000) return this.#fail("The connection is lost.");
    await sleep(1);
    try {
      this.url = await this.renew();
    } catch (error) {
      if (!passes(error)) return this.#fail(error.message);
    }
    if (!this.closed) this.#playAddress();
  }

  async #playStream(signal) {
    const { video } = this;
    const media = (this.media = new MediaBuffer(video));
    this.stream = new Stream(this.url, {
      onHead: (head) => media.begin(head),
      onData: async (data) => {
        await media.append(data);
        this.#steer();
      },
      onJoin: () => media.abort(),
    });
    this.ticking = setInterval(() => this.#tick(), TICK);
    video.addEventListener("play", () => this.#toEdge(), { signal });
    video.onerror = () => this.closed || this.#fail(`The video cannot be decoded: ${video.error?.message}`);
    try {
      await media.opened();
      await this.stream.read();
      media.end();
      this.edge.end();
      this.over = true;
      if (this.skipTo !== null) this.#play();
      if (!video.ended) await once(video, "ended");
      if (!this.closed) this.onEnd();
    } catch (error) {
      this.#fail(error.message);
    }
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
    const rate = this.edge.rate(video.currentTime, this.buffered);
    if (video.playbackRate !== rate) video.playbackRate = rate;
    if (video.paused && !this.started) {
      this.started = true;
      this.#play();
    }
  }

  #tick() {
    this.#steer();
    const { currentTime, paused, seeking, ended } = this.video;
    if (paused || seeking || ended || currentTime !== this.shown) [this.shown, this.stood] = [currentTime, 0];
    else this.stood += TICK / 1000;
    if (this.stood < STALL || this.buffered < STALL) return;
    this.video.currentTime = currentTime + NUDGE;
    this.stood = 0;
  }

  // It plays again after a pause: what is live is shown, not what was.
  #toEdge() {
    const { currentTime } = this.video;
    if (this.skipTo === null && this.edge.behind(currentTime) > PAUSE) {
      this.video.currentTime = this.edge.after(currentTime, this.buffered);
    }
  }

  // The tab is hidden, or `frozen`; the browser may pause what plays.
  #sleep(frozen = false) {
    this.frozen ||= frozen;
    this.playing ||= !this.video.paused;
  }

  #wake() {
    if (document.hidden || this.closed || !this.started) return;
    if (this.frozen) this.stream.thaw();
    if (this.playing && this.video.paused && this.skipTo === null) this.#play();
    this.frozen = this.playing = false;
  }

  #play() {
    this.video.play().catch((error) => this.#refused(error));
  }

  #refused(error) {
    if (error.name === "NotAllowedError") this.onRefused();
  }

  #fail(message) {
    if (!this.closed) this.onError(message);
  }
}
