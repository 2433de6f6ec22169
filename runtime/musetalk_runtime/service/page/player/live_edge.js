// The live edge of a stream: the second of it that is live now, by what the service tells. It also says how fast to play
// to come back to it.
const NEAR = 0.5; // seconds behind the edge where playback need not hurry
const FAR = 1.5; // seconds behind from which it hurries, until it is near
const RATES = [1.05, 1.2]; // the slowest and the fastest that it hurries
const RESERVE = 0.4; // seconds of buffer below which it does not, and which a seek leaves
const TALK = { buffered: 0.9, rate: 1.06 }; // in a conversation: the buffer it may have, and how fast it plays with more

export class LiveEdge {
  // `hurries` while playback catches up. In a `conversation` the buffer is kept small.
  constructor() {
    Object.assign(this, { zero: null, far: false, hurries: false, conversation: false });
  }

  // What the service tells each second: seconds of stream that are `generated`, and how far that is `ahead`.
  hear({ generated, ahead }) {
    if (!this.ended) this.zero = performance.now() / 1000 - (generated - ahead);
  }

  // No more is made: what is there is a recording now, and nothing of it is left out.
  end() {
    Object.assign(this, { ended: true, zero: null });
  }

  // Seconds that playback at `time` is behind; 0 where that is not known.
  behind(time) {
    return this.zero === null ? 0 : Math.max(0, performance.now() / 1000 - this.zero - time);
  }

  // Where playback at `time`, with so much `buffered`, goes on after a pause.
  after(time, buffered) {
    this.far = false;
    return time + Math.max(0, Math.min(this.behind(time) - NEAR, buffered - RESERVE));
  }

  // How fast to play at `time`, with so much `buffered`: the faster, the further behind.
  rate(time, buffered) {
    const behind = this.behind(time);
    this.far = behind > (this.far ? NEAR : FAR);
    this.hurries = this.far && buffered > RESERVE;
    if (this.hurries) {
      const rate = 1 + Math.round((behind - NEAR) * 4) / 20; // in steps, so that it seldom changes
      return Math.min(RATES[1], Math.max(RATES[0], rate));
    }
    return this.conversation && buffered > TALK.buffered ? TALK.rate : 1;
  }
}
