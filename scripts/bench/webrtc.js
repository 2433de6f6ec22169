// What scripts/bench/webrtc.py runs in the page: it watches by the page's own players, and looks and listens.
(async () => {
const { Player } = await import("/player.js");
const { WebRtcPlayer } = await import("/webrtc.js");
const sleep = ms => new Promise(done => setTimeout(done, ms));
const context = new AudioContext();
const canvas = Object.assign(document.createElement("canvas"), { width: 32, height: 16 });
const ink = canvas.getContext("2d", { willReadFrequently: true });
await context.resume();

const playWebRtc = (video, session, handlers) => new WebRtcPlayer(video, session, handlers);
const playMp4 = (video, session, handlers) => new Player(video, session.stream, handlers);

// As hls.js does by itself: it cannot skip.
function playHls(video, session, { onError }) {
    const hls = new Hls({ lowLatencyMode: true, enableWorker: false });
    hls.on(Hls.Events.ERROR, (_, { fatal, details }) => fatal && onError(details));
    hls.loadSource(session.hls);
    hls.attachMedia(video);
    video.play();
    return { edge: { hear() {} }, skip() {}, close: () => hls.destroy() };
}

window.open_ = async (kind, session, box) => {
    const began = performance.now();
    const video = Object.assign(document.createElement("video"), { playsInline: true });
    video.style = "position: fixed; top: 0; left: 0; width: 160px; z-index: 9";
    document.body.append(video);
    const problems = [];
    const players = { webrtc: playWebRtc, mp4: playMp4, hls: playHls };
    const handlers = { onLost: text => problems.push(text), onError: text => problems.push(text), onAgain() {}, onEnd() {}, onRefused() {} };
    const player = players[kind](video, session, handlers);
    player.edge.conversation = true;
    const events = new EventSource(session.events);
    events.addEventListener("buffer", ({ data }) => player.edge.hear(JSON.parse(data)));
    const watched = { video, player, problems, frames: [], sound: [], closed: false };
    let last = null;
    const see = (now, { expectedDisplayTime }) => {
        if (watched.closed) return;
        watched.first ??= now - began;
        const [x0, y0, x1, y1] = box;
        ink.drawImage(video, x0, (y0 + y1) / 2, x1 - x0, (y1 - y0) / 2, 0, 0, 32, 16);
        const pixels = ink.getImageData(0, 0, 32, 16).data;
        let moved = 0;
        if (last) for (let n = 0; n < pixels.length; n += 4) moved += Math.abs(pixels[n] - last[n]);
        last = pixels;
        watched.frames.push([expectedDisplayTime, moved / 512]);
        video.requestVideoFrameCallback(see);
    };
    video.requestVideoFrameCallback(see);
    while (!watched.first && !problems.length) await sleep(5);
    const analyser = Object.assign(context.createAnalyser(), { fftSize: 512 });
    const source = kind === "webrtc" ? context.createMediaStreamSource(video.srcObject) : context.createMediaElementSource(video);
    source.connect(analyser);
    const samples = new Float32Array(512);
    const listening = setInterval(() => {
        analyser.getFloatTimeDomainData(samples);
        watched.sound.push([performance.now(), Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / 512)]);
    }, 5);
    watched.close = () => {
        watched.closed = true;
        clearInterval(listening);
        events.close();
        player.close();
        video.remove();
    };
    return watched;
};

// Say `pcm` live; gives when its first sample was sent.
window.say = async (socket, pcm, piece) => {
    const began = performance.now();
    for (let n = 0; n * piece < pcm.length; n++) {
        await sleep(began + n * 20 - performance.now());
        socket.send(pcm.slice(n * piece, (n + 1) * piece));
    }
    return began;
};

// Milliseconds from an interruption, in the middle of a tone that was sent at once, until it is heard no more.
window.interruption = async (watched, socket, path, after) => {
    await sleep(1200 + 200 * Math.random());
    const began = performance.now();
    for (let n = 0; n < 9; n++) socket.send(Int16Array.from({ length: 16000 }, (_, k) => 8000 * Math.sin(k * 0.08)));
    while (!watched.sound.some(([at, loud]) => at > began && loud > 0.01) && performance.now() < began + 10000) await sleep(20);
    await sleep(700 + 100 * Math.random());
    const interrupted = performance.now();
    if (watched.player.stream) watched.video.pause();
    const { at } = await (await fetch(`${path}/interrupt`, { method: "POST" })).json();
    watched.player.skip(at);
    await sleep(after);
    const loud = watched.sound.filter(([at, loud]) => at > interrupted && loud > 0.01).at(-1);
    return loud ? loud[0] - interrupted : 0;
};

window.turn = async (watched, socket, pcm, piece, after) => {
    await sleep(1200 + 200 * Math.random());
    const now = performance.now();
    const still = Math.max(...watched.frames.filter(([at]) => at > now - 900).map(([, moved]) => moved));
    const began = await say(socket, pcm, piece);
    await sleep(after);
    const mouth = watched.frames.find(([at, moved]) => at > began && moved > 1.6 * still + 0.3);
    const sound = watched.sound.find(([at, loud]) => at > began && loud > 0.01);
    return { mouth: mouth ? mouth[0] - began : null, sound: sound ? sound[0] - began : null };
};

// Milliseconds for which the browser held what it received of each kind since `before`, on average, and what it counts.
window.held = async (watched, before = {}) => {
    const counts = {}, ms = {};
    for (const one of (await watched.player.connection.getStats()).values()) {
        if (one.type !== "inbound-rtp") continue;
        const { kind, jitterBufferDelay: buffered, jitterBufferEmittedCount: emitted } = one;
        const { totalProcessingDelay: processed = 0, framesDecoded: decoded = 0 } = one;
        counts[kind] = { buffered, emitted, processed, decoded };
        const was = before[kind] ?? { buffered: 0, emitted: 0, processed: 0, decoded: 0 };
        ms[`${kind}_jitter_buffer_ms`] = Math.round(1000 * (buffered - was.buffered) / (emitted - was.emitted));
        if (decoded > was.decoded)
            ms[`${kind}_received_to_decoded_ms`] = Math.round(1000 * (processed - was.processed) / (decoded - was.decoded));
    }
    return { counts, ms };
};

window.sync = async (watched, seconds) => {
    const offsets = [];
    let troubles = {};
    for (let n = 0; n < seconds; n++) {
        await sleep(1000);
        const playout = {};
        for (const one of (await watched.player.connection?.getStats())?.values() ?? []) {
            if (one.type !== "inbound-rtp") continue;
            playout[one.kind] = one.estimatedPlayoutTimestamp;
            if (one.kind === "video") Object.assign(troubles, { freezes: one.freezeCount, frames_dropped: one.framesDropped });
            else troubles.sound_concealed_s = (one.concealedSamples - one.silentConcealedSamples) / 48000;
        }
        if (playout.audio && playout.video) offsets.push(playout.video - playout.audio);
    }
    return { offsets, troubles: { ...troubles, reconnections: watched.player.reconnections } };
};
})();
