// Requests to the service. Every error it answers has a text for people, and becomes an Error with that text.

export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
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
