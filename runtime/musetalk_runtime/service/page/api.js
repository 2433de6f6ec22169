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
  } catch {
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
