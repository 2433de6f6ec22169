// The microphone, as pieces of PCM: Int16Array, mono, 16 kHz. What keeps it from being used is said in words.
const REASONS = {
  NotAllowedError: "The microphone was refused. Allow it in the browser's address bar, and try again.",
  NotFoundError: "No microphone was found. Connect one, and try again.",
  NotReadableError: "The microphone cannot be used: another program may have it.",
};

export class Microphone {
  // `onPcm` gets each piece, `onEnd` is told when the microphone goes away.
  static async open({ onPcm, onEnd }) {
    if (!navigator.mediaDevices) throw new Error("The browser gives the microphone to https:// and localhost only.");
    const made = new Microphone();
    try {
      made.stream = await navigator.mediaDevices.getUserMedia({
        audio: { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
      });
    } catch (error) {
      throw new Error(REASONS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    try {
      await made.#listen(onPcm, onEnd);
    } catch (error) {
      made.close();
      throw new Error(`The microphone cannot be heard: ${error.message}`);
    }
    return made;
  }

  get track() {
    return this.stream.getAudioTracks()[0];
  }

  close() {
    this.stream.getTracks().forEach((track) => track.stop());
    this.context?.close();
  }

  async #listen(onPcm, onEnd) {
    this.context = new AudioContext();
    await this.context.audioWorklet.addModule("microphone-worklet.js");
    const pcm = new AudioWorkletNode(this.context, "pcm", { channelCount: 1, channelCountMode: "explicit", numberOfOutputs: 0 });
    pcm.port.onmessage = ({ data }) => onPcm(data);
    this.context.createMediaStreamSource(this.stream).connect(pcm);
    this.track.onended = onEnd;
    await this.context.resume();
  }
}

// How loud a piece is, from 0 to 1: the square root of its level, since that is how one hears.
export function loudness(piece) {
  const power = piece.reduce((sum, sample) => sum + sample * sample, 0) / piece.length;
  return Math.min(1, Math.sqrt(Math.sqrt(power) / 16384));
}
