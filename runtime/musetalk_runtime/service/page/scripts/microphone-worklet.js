// Runs beside the page: what the microphone hears, brought to 16 kHz, in pieces of 40 ms.
const RATE = 16000;
const PIECE = 640; // samples
const PHASES = 64; // positions between two samples that the filter knows
const LOBES = 12; // of the filter, on each side

class Pcm extends AudioWorkletProcessor {
  constructor() {
    super();
    const cut = Math.min(1, RATE / sampleRate) * 0.94; // what 16 kHz cannot hold is left out
    this.reach = Math.ceil(LOBES / cut);
    this.filters = Array.from({ length: PHASES }, (_, phase) => filter(cut, this.reach, phase / PHASES));
    this.heard = new Float32Array(2 * this.reach);
    this.at = this.reach; // in `heard`, where the next sample is
    this.piece = new Int16Array(PIECE);
    this.count = 0;
  }

  process([[channel]]) {
    if (!channel) return true;
    const heard = new Float32Array(this.heard.length + channel.length);
    heard.set(this.heard);
    heard.set(channel, this.heard.length);
    for (; this.at + this.reach + 1 < heard.length; this.at += sampleRate / RATE) this.#push(this.#sample(heard));
    const done = Math.floor(this.at) - this.reach;
    this.heard = heard.slice(done);
    this.at -= done;
    return true;
  }

  #sample(heard) {
    const near = Math.floor(this.at);
    const taps = this.filters[Math.floor((this.at - near) * PHASES)];
    let sum = 0;
    for (let n = 0; n < taps.length; n++) sum += heard[near - this.reach + n] * taps[n];
    return sum;
  }

  #push(sample) {
    this.piece[this.count++] = Math.max(-1, Math.min(1, sample)) * 32767;
    if (this.count < PIECE) return;
    this.port.postMessage(this.piece, [this.piece.buffer]);
    this.piece = new Int16Array(PIECE);
    this.count = 0;
  }
}

// A low-pass filter that gives the value `fraction` of a sample after its middle; its sum is 1.
function filter(cut, reach, fraction) {
  const taps = Float32Array.from({ length: 2 * reach + 2 }, (_, n) => {
    const x = n - reach - fraction;
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * cut * x) / (Math.PI * cut * x);
    const within = Math.max(-1, Math.min(1, x / (reach + 1)));
    return sinc * Math.cos((Math.PI / 2) * within) ** 2;
  });
  const sum = taps.reduce((a, b) => a + b);
  return taps.map((tap) => tap / sum);
}

registerProcessor("pcm", Pcm);
