// Promises of what the browser tells by timers and events.

export const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export const once = (target, event) => new Promise((done) => target.addEventListener(event, done, { once: true }));
