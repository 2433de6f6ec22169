// The faces there are, to choose one.
import { ask, request } from "./api.js";
import { $, draw, element } from "./dom.js";

let avatars = [];

// {onChoose, onDelete}: who is told.
export const gallery = { onChoose: () => {}, onError: () => {} };

export const chosen = () => avatars.find(({ name }) => name === document.querySelector("#avatars input:checked")?.value);

// Show the avatars that are ready, with `name` chosen if it is among them.
export async function showAvatars(name = chosen()?.name) {
  avatars = (await ask("v1/avatars")).filter(({ state }) => state === "ready");
  const wanted = avatars.find((avatar) => avatar.name === name) ?? avatars[0];
  $("avatars").replaceChildren(...avatars.map((avatar) => card(avatar, avatar === wanted)));
  $("none").hidden = avatars.length > 0;
  gallery.onChoose();
}

// An avatar's picture; fetched, since an image's address could not carry what the service wants to see.
export async function pictureOf(avatar) {
  const answer = await request(avatar.picture);
  if (!answer.ok) throw new Error(`There is no picture of ${avatar.name}`);
  return createImageBitmap(await answer.blob());
}

function card(avatar, checked) {
  const { name, width, height, uploaded } = avatar;
  const input = element("input", { type: "radio", name: "avatar", value: name, checked });
  const picture = element("canvas", { width: 144, height: 144, ariaHidden: "true" });
  const size = element("span", { className: "size", textContent: `${width} × ${height}` });
  const label = element("label", { className: "card" }, input, picture, element("span", { className: "name", textContent: name }), size);
  input.addEventListener("change", () => gallery.onChoose());
  pictureOf(avatar).then((image) => draw(picture, image, true), () => {}); // the name is there without it
  if (!uploaded) return element("li", {}, label);
  const remove = element("button", { type: "button", className: "remove", title: `Delete ${name}`, textContent: "×" });
  remove.setAttribute("aria-label", `Delete ${name}`);
  remove.addEventListener("click", () => discard(name));
  return element("li", {}, label, remove);
}

async function discard(name) {
  if (!confirm(`Delete the avatar ${name}?`)) return;
  try {
    await ask(`v1/avatars/${name}`, { method: "DELETE" });
    await showAvatars();
    ($("avatars").querySelector("input:checked") ?? $("add")).focus();
  } catch (error) {
    gallery.onError(error.message);
  }
}
