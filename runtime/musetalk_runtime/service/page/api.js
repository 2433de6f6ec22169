// Requests to the service. Every error it answers has a text for people, and becomes an Error with that text.
import { askForToken, authorization, token } from "./token.js";

// `fetch` with the token; where it is missing or wrong, the person is asked for it.
export async function request(path, options = {}) {
  for (;;) {
    const used = token();
    const answer = await fetch(path, { cache: "no-store", ...options, headers: { ...options.headers, ...authorization() } });
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
  throw new Error(await reason(answer));
}

export async function reason(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `The service answered ${answer.status}.`;
  }
}

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
    sending.onabort = () => fail(new DOMException("", "AbortError"));
    sending.onload = () => {
      if (sending.status < 300) done(sending.response);
      else fail(new Error(sending.response?.error?.message ?? `The service answered ${sending.status}.`));
    };
    signal.addEventListener("abort", () => sending.abort());
    sending.send(file);
  });
}
