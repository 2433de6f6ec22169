// The API, from its OpenAPI description: an index, an example for each call, and once the errors that many may answer.
import { ask } from "./api.js";
import { $, element } from "./dom.js";
import { example } from "./example.js";

const RETURNS = { "text/event-stream": "server-sent events", "video/mp4": "MP4", "image/jpeg": "a JPEG", "text/plain": "text" };

// Text with `code`, and in paragraphs.
const inline = (text) => text.split("`").map((part, n) => (n % 2 ? element("code", { textContent: part }) : part));
const prose = (text) => text.split("\n\n").map((paragraph) => element("p", {}, ...inline(paragraph)));

// What a call gives: the fields of its JSON, or the kind of its file.
function returned({ content = {} }, { components }) {
  const [type, { schema = {} }] = Object.entries(content)[0] ?? [null, {}];
  if (type === null) return "nothing";
  if (type !== "application/json") return RETURNS[type] ?? type;
  const name = (schema.items ?? schema).$ref?.split("/").at(-1);
  const fields = name ? `{${Object.keys(components.schemas[name].properties).join(", ")}}` : "JSON";
  return schema.items ? `a list of ${fields}` : fields;
}

// Each error as a text, and how many calls may answer it.
function errors(calls) {
  const counts = new Map();
  for (const { operation } of calls) {
    for (const text of refusals(operation)) counts.set(text, (counts.get(text) ?? 0) + 1);
  }
  return counts;
}

const refusals = ({ responses }) => answers(responses, (code) => code >= 400).map(([code, { description }]) => `${code} ${description}`);

const answers = (responses, wanted) => Object.entries(responses).filter(([code]) => wanted(Number(code)));

function section({ id, method, path, operation }, description, counts) {
  const made = element("section", { id }, element("h2", { textContent: `${method} ${path}` }), ...prose(operation.description));
  made.append(element("pre", { textContent: example(method, path, operation, description), tabIndex: 0 }));
  const parameters = (operation.parameters ?? []).filter(({ in: where }) => where !== "path");
  const terms = parameters.flatMap(({ name, in: where, required, description: text, schema }) => [
    element("dt", { textContent: `${name} (${where}${required ? ", required" : ""})` }),
    element("dd", {}, ...inline(text ?? schema.description ?? "")),
  ]);
  for (const [code, answer] of answers(operation.responses, (code) => code < 400)) {
    const text = answer.description === "Successful Response" ? "" : `${answer.description}: `;
    terms.push(element("dt", { textContent: code }), element("dd", { textContent: text + returned(answer, description) }));
  }
  for (const text of refusals(operation).filter((text) => counts.get(text) === 1)) {
    terms.push(element("dt", { textContent: text.slice(0, 3) }), element("dd", { textContent: text.slice(4) }));
  }
  made.append(element("dl", {}, ...terms));
  return made;
}

function list(calls) {
  const link = ({ id, method, path }) => element("li", {}, element("a", { href: `#${id}`, textContent: `${method} ${path}` }));
  const last = element("li", {}, element("a", { href: "#errors", textContent: "Errors" }));
  const nav = element("nav", {}, element("ul", {}, ...calls.map(link), last));
  nav.setAttribute("aria-label", "Calls");
  return nav;
}

function common(counts) {
  const made = element("section", { id: "errors" }, element("h2", { textContent: "Errors" }));
  made.append(...prose("Each is JSON: `{\"error\": {\"code\": ..., \"message\": ...}}`. The message is for people. Several calls may answer:"));
  const terms = [...counts].filter(([, count]) => count > 1).map(([text]) => text).sort();
  made.append(element("dl", {}, ...terms.flatMap((text) => [element("dt", { textContent: text.slice(0, 3) }), element("dd", { textContent: text.slice(4) })])));
  return made;
}

try {
  const description = await ask("v1/openapi.json");
  const calls = Object.entries(description.paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([name, operation]) => {
      const method = name.toUpperCase();
      return { method, path, operation, id: `${method}${path}`.replace(/[^A-Za-z0-9]+/g, "-").toLowerCase() };
    }),
  );
  const counts = errors(calls);
  $("reference").append(list(calls), ...calls.map((call) => section(call, description, counts)), common(counts));
  if (location.hash) $(location.hash.slice(1))?.scrollIntoView();
} catch (error) {
  $("reference").append(element("p", { textContent: error.message }));
}
