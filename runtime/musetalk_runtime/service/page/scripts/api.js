// Requests to the service. Every error it answers has a text for people, and becomes an Error with that text.
import { askForToken, authorization, token } from "./token.js";

const PATIENCE = 30_000; // milliseconds for an answer, unless who asks says otherwise: a page must not wait for ever

// `fetch` with the token; where it is missing or wrong, the person is asked for it.
export async function request(path, options = {}) {
  for (;;) {
    const used = token();
    const headers = { ...options.headers, ...authorization() };
    const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE), ...options, headers });
    if (answer.status !== 401) return answer;
    const text = used ? "That token is not, or no longer, known. The token:" : "This service wants a token:";
    if (token() === used && !(await askForToken(text))) return answer;
  }
}

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await request(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service cannot be reached.");
  }
  if (answer.ok) return answer.status === 204 ? null : answer.json();
  throw await failure(answer);
}

// An answer that is an error, as an Error: with its status, and its code if it is the service's own; `retryAfter` is the
// seconds that the service asks for before it is tried again.
export async function failure(answer) {
  return errorOf(answer.status, await answer.json().catch(() => null), answer.headers.get("Retry-After"));
}

function errorOf(status, content, retryAfter) {
  const { code, message } = content?.error ?? { message: `The service answered ${status}.` };
  return Object.assign(new Error(message), { status, code, retryAfter: Number(retryAfter) });
}

// Whether an error may soon be over: nobody answered, a proxy did for a service that is away, or it is busy.
export const passes = ({ status, code }) => status === undefined || status === 503 || (status > 500 && !code);

export const postJson = (path, content) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content) });

// Send a file, and tell the share of it that is sent; `signal` ends that.
export function upload(path, file, { onProgress, signal }) {
  return new Promise((done, fail) => {
    const sending = new XMLHttpRequest(); // fetch does not tell how far it is
    sending.open("POST", path);
    sending.responseType = "json";
    for (const [name, value] of Object.entries(authorization())) sending.setRequestHeader(name, value);
    sending.upload.onprogress = ({ loaded, total }) => onProgress(loaded / total);
    sending.onerror = () => fail(new Error("The service cannot be reached, or took no more of this file."));
    sending.onabort = () => fail(signal.reason);
    sending.onload = () => {
      if (sending.status < 300) done(sending.response);
      else fail(errorOf(sending.status, sending.response, sending.getResponseHeader("Retry-After")));
    };
    signal.addEventListener("abort", () => sending.abort());
    sending.send(file);
  });
}
