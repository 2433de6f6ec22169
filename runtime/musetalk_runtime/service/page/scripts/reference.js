// The API, from its OpenAPI description.
import { ask } from "./api.js";

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function example(description, operation) {
  const schema = operation.requestBody?.content["application/json"]?.schema;
  const name = schema?.$ref?.split("/").at(-1);
  return description.components.schemas[name]?.examples?.[0];
}

function section(description, method, path, operation) {
  const made = document.createElement("section");
  made.append(element("h2", `${method.toUpperCase()} ${path}`), element("p", operation.description ?? operation.summary));
  const body = example(description, operation);
  if (body) made.append(element("pre", JSON.stringify(body)));
  for (const { name, in: where, schema } of operation.parameters ?? []) {
    if (where !== "path") made.append(element("p", `${name} (${where}): ${schema.description ?? schema.title ?? ""}`));
  }
  made.append(element("p", "Answers: " + Object.entries(operation.responses).map(([code, { description: text }]) => `${code} ${text}`).join("; ")));
  return made;
}

try {
  const description = await ask("v1/openapi.json");
  for (const [path, operations] of Object.entries(description.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      document.getElementById("reference").append(section(description, method, path, operation));
    }
  }
} catch (error) {
  document.getElementById("reference").append(element("p", error.message));
}
