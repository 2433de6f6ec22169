// Plays a session by WebRTC, as WHEP has it: as it is made, and with the microphone on the same connection.
import { failure, passes, request } from "./api.js";
import { once, sleep } from "./promises.js";

const CONNECTING = 5; // seconds from the start until the connection stands, after which it is given up
const FIRST = 2.5; // seconds from then until a frame is seen, after which it is given up
const STALL = 2; // seconds without a frame after which the connection is made anew
const PATIENCE = 10; // seconds for which a service that does not answer is asked again
const ASKING = 0.5; // seconds between two times
const TICK = 500; // milliseconds between looks at the connection
const GATHERING = 1; // seconds for the addresses that STUN and TURN servers tell
const TAIL = 0.5; // seconds that a session which has ended is still shown

export class WebRtcPlayer {
  static supported = Boolean(self.RTCPeerConnection);

  // Of a session's answer, `whep` and `ice_servers` are used; `renew` gives the former anew. `onAgain` is told when the
  // connection is lost and made anew, `onLost` why it does not get through, `onError` why there is no service, in words,
  // and `onEnd` when the session is over; `onRefused` may help where the browser wants a click before it plays.
  constructor(video, { whep, ice_servers }, handlers) {
    Object.assign(this, { video, whep, iceServers: ice_servers, ...handlers });
    Object.assign(this, { live: true, closed: false, over: false, connected: false, reconnections: 0, buffered: 0, track: null });
    this.edge = { hear() {}, behind: () => 0, end: () => this.#end() };
    this.ticking = setInterval(() => this.#tick(), TICK);
    this.#begin();
  }

  // Say what `track` of a microphone hears, or nothing more if it is null.
  async speak(track) {
    this.track = track;
    await this.voice?.replaceTrack(track).catch(() => {});
  }

  // Frames are shown as they come: none is left to be skipped.
  skip() {}

  // When the frame that the service has just sent is shown, by performance.now.
  seen() {
    const sent = performance.now();
    return new Promise((done) => {
      const look = (now, { receiveTime = now, expectedDisplayTime }) => {
        if (receiveTime >= sent - 20) done(expectedDisplayTime);
        else this.video.requestVideoFrameCallback(look);
      };
      this.video.requestVideoFrameCallback?.(look);
    });
  }

  close() {
    this.closed = true;
    clearInterval(this.ticking);
    this.#drop();
    this.video.srcObject = null;
  }

  async #begin() {
    const shown = once(this.video, "loadeddata");
    try {
      await within(CONNECTING, this.#connect());
      await within(FIRST, shown);
      this.connected = true;
    } catch (error) {
      this.#lose(error.message);
    }
  }

  async #connect() {
    const connection = (this.connection = new RTCPeerConnection({ iceServers: this.iceServers, bundlePolicy: "max-bundle" }));
    const stream = (this.video.srcObject = new MediaStream());
    connection.ontrack = ({ receiver, track }) => {
      receiver.jitterBufferTarget = 0;
      stream.addTrack(track);
    };
    connection.onconnectionstatechange = () => connection.connectionState === "failed" && this.#again();
    connection.addTransceiver("video", { direction: "recvonly" });
    this.voice = connection.addTransceiver("audio", { direction: "sendrecv" }).sender;
    if (this.track) await this.voice.replaceTrack(this.track);
    await connection.setLocalDescription();
    if (this.iceServers.length) await Promise.race([gathered(connection), sleep(GATHERING)]);
    const headers = { "Content-Type": "application/sdp" };
    const answer = await request(this.whep, { method: "POST", headers, body: connection.localDescription.sdp });
    if (!answer.ok) throw await failure(answer);
    const location = answer.headers.get("Location");
    if (this.closed || connection !== this.connection) return forget(location);
    this.location = location;
    await connection.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    this.video.play().catch(({ name }) => name === "NotAllowedError" && this.onRefused());
    while (connection.connectionState !== "connected") {
      await once(connection, "connectionstatechange");
      if (connection.connectionState === "failed") throw new Error("there is no way to the service");
    }
  }

  // By a new offer: the service does not restart ICE.
  async #again() {
    if (this.closed || this.over || !this.connected) return;
    this.connected = false;
    this.reconnections++;
    this.onAgain();
    this.#drop();
    try {
      await this.#renew();
    } catch (error) {
      return this.closed || this.over || this.onError(error.message);
    }
    if (!this.closed) this.#begin();
  }

  // The address anew; raises why there is none, at once or after a while without an answer.
  async #renew() {
    const lost = performance.now();
    for (;;) {
      try {
        return (this.whep = await this.renew());
      } catch (error) {
        if (this.closed || !passes(error)) throw error;
        if (performance.now() - lost > PATIENCE * 1000) throw new Error("The connection is lost.");
        await sleep(ASKING);
      }
    }
  }

  #drop() {
    this.connection?.close();
    if (this.location) forget(this.location);
    this.location = this.connection = this.voice = null;
    this.count = this.heard = undefined;
  }

  #lose(reason) {
    if (!this.closed && !this.over) this.onLost(reason);
  }

  async #end() {
    this.over = true;
    await sleep(TAIL);
    if (!this.closed) this.onEnd();
  }

  async #tick() {
    const { connection } = this;
    if (!connection || !this.connected) return;
    const found = [...(await connection.getStats()).values()].find(({ type, kind }) => type === "inbound-rtp" && kind === "video");
    if (!found || connection !== this.connection) return;
    const { framesReceived, jitterBufferDelay, jitterBufferEmittedCount } = found;
    if (jitterBufferEmittedCount) this.buffered = jitterBufferDelay / jitterBufferEmittedCount;
    if (framesReceived !== this.count) [this.count, this.heard] = [framesReceived, performance.now()];
    else if (performance.now() - this.heard > STALL * 1000) this.#again();
  }
}

const within = (seconds, promise) =>
  Promise.race([promise, sleep(seconds).then(() => Promise.reject(new Error("nothing was received")))]);

const gathered = async (connection) => {
  while (connection.iceGatheringState !== "complete") await once(connection, "icegatheringstatechange");
};

const forget = (location) => request(location, { method: "DELETE", keepalive: true }).catch(() => {});
