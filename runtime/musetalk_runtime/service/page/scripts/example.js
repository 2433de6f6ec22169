// A call of the API as a command line for curl.
const VALUES = { avatar: "anna", name: "anna", id: "ID", number: "7", index: "0" }; // of parameters
const FILES = { "audio/*": "speech.mp3", "image/*": "photo.jpg" }; // that are sent
const OUTPUTS = { "video/mp4": "-o talk.mp4", "image/jpeg": "-o picture.jpg", "text/event-stream": "-N" };

export function example(method, path, operation, { components }) {
  const { parameters = [], requestBody, responses } = operation;
  const query = parameters.filter(({ in: where, required }) => where === "query" && required);
  const address = new URL(path.slice(1).replace(/{(\w+)}/g, (_, name) => VALUES[name] ?? name), document.baseURI);
  for (const { name } of query) address.searchParams.set(name, VALUES[name] ?? name);
  const words = ["curl"];
  const type = Object.keys(requestBody?.content ?? {})[0];
  if (!type && method !== "GET") words.push(`-X ${method}`);
  if (FILES[type]) words.push(`--data-binary @${FILES[type]}`);
  if (type === "application/json") {
    const schema = components.schemas[requestBody.content[type].schema.$ref.split("/").at(-1)];
    words.push(`-H 'Content-Type: application/json' -d '${JSON.stringify(schema.examples[0])}'`);
  }
  const given = Object.values(responses).flatMap(({ content }) => Object.keys(content ?? {}));
  words.push(...given.filter((kind) => OUTPUTS[kind]).slice(0, 1).map((kind) => OUTPUTS[kind]));
  return [...words, `'${address}'`].join(" ");
}
