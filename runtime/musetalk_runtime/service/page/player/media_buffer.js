// The part of a stream that a video holds, by Media Source Extensions.
import { once, sleep } from "./promises.js";

const KEPT = 10; // seconds held behind the playhead

export class MediaBuffer {
  constructor(video) {
    this.video = video;
    this.source = new (self.MediaSource ?? self.ManagedMediaSource)();
    this.address = URL.createObjectURL(this.source);
    video.disableRemotePlayback = true;
    video.src = this.address;
  }

  static get supported() {
    return Boolean(self.MediaSource ?? self.ManagedMediaSource);
  }

  opened = () => once(this.source, "sourceopen");

  // Take the head of a stream, which names its codecs.
  async begin(head) {
    const type = `video/mp4; codecs="${codec(head)}, mp4a.40.2"`;
    if (!this.buffer) {
      if (!this.source.constructor.isTypeSupported(type)) throw Object.assign(new Error(`The browser cannot play ${type}.`), { final: true });
      this.buffer = this.source.addSourceBuffer(type);
    }
    await this.append(head);
  }

  async append(data) {
    try {
      this.buffer.appendBuffer(data);
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw Object.assign(error, { final: true });
      await sleep(1);
      await this.#forget(1);
      return this.append(data);
    }
    await once(this.buffer, "updateend");
    await this.#forget(KEPT);
  }

  // What comes next does not follow what came.
  abort() {
    this.buffer?.abort();
  }

  end() {
    if (this.source.readyState === "open") this.source.endOfStream();
  }

  close() {
    URL.revokeObjectURL(this.address);
  }

  async #forget(kept) {
    const { buffered, currentTime } = this.video;
    if (!buffered.length || buffered.start(0) >= currentTime - 2 * kept) return;
    this.buffer.remove(0, currentTime - kept);
    await once(this.buffer, "updateend");
  }
}

// The video's codec as MSE wants it, from the avcC box: profile, constraints and level in hexadecimal.
function codec(head) {
  for (let at = 0; at < head.length - 8; at++) {
    if (head[at] === 0x61 && head[at + 1] === 0x76 && head[at + 2] === 0x63 && head[at + 3] === 0x43) {
      return "avc1." + Array.from(head.subarray(at + 5, at + 8), (byte) => byte.toString(16).padStart(2, "0")).join("");
    }
  }
  throw Object.assign(new Error("The stream has no video the browser can play."), { final: true });
}
