// The token of a service that wants one: asked for once, and kept for as long as the tab is open.
const KEY = "musetalk-edge-token";
let asking = null;

export const keep = (text) => sessionStorage.setItem(KEY, text);

export const token = () => sessionStorage.getItem(KEY);

export const authorization = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

// Ask the person; whether there is one now. Whoever asks meanwhile gets the same answer.
export function askForToken(text) {
  asking ??= show(text).finally(() => (asking = null));
  return asking;
}

function show(text) {
  const dialog = document.createElement("dialog");
  const form = document.createElement("form");
  const label = document.createElement("label");
  const input = Object.assign(document.createElement("input"), { id: "token", type: "password", required: true, autocomplete: "off" });
  const button = Object.assign(document.createElement("button"), { type: "submit", className: "main", textContent: "Go on" });
  Object.assign(label, { htmlFor: "token", textContent: text });
  form.append(label, input, button);
  dialog.append(form);
  document.body.append(dialog);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keep(input.value.trim());
    dialog.close("given");
  });
  dialog.showModal();
  return new Promise((done) =>
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(dialog.returnValue === "given");
    }),
  );
}
