// musetalk-edge behind Node, under a prefix, with nothing but its http module.
//
//     musetalk-edge serve -b BUNDLE -a NAME=AVATAR --tokens FILE --root-path /face --allow-host face.example
//     node proxy.mjs 8080 http://127.0.0.1:8787 /face
import http from "node:http";
import { pipeline } from "node:stream";

const [port = "8080", service = "http://127.0.0.1:8787", prefix = "/face"] = process.argv.slice(2);
const { hostname, port: servicePort } = new URL(service);

const ours = ({ url }) => url.startsWith(`${prefix}/`);

// The headers go as they came: the service compares Host with Origin.
const ask = ({ method, headers, url }) =>
  http.request({ hostname, port: servicePort, method, headers, path: url.slice(prefix.length) });

const server = http.createServer((request, response) => {
  if (request.url === prefix) return response.writeHead(308, { Location: `${prefix}/` }).end();
  if (!ours(request)) return response.writeHead(404).end();
  const asked = ask(request);
  asked.on("response", (answer) => {
    response.writeHead(answer.statusCode, answer.rawHeaders);
    pipeline(answer, response, () => {}); // a stream that is cut on one side is cut on the other
  });
  asked.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
  response.on("close", () => asked.destroy());
  request.pipe(asked);
});

server.on("upgrade", (request, near, head) => {
  near.on("error", () => near.destroy());
  if (!ours(request)) return near.destroy();
  const asked = ask(request);
  const tell = ({ statusCode, statusMessage, rawHeaders }) => {
    const lines = rawHeaders.map((text, n) => (n % 2 ? `${text}\r\n` : `${text}: `));
    near.write(`HTTP/1.1 ${statusCode} ${statusMessage}\r\n${lines.join("")}\r\n`);
  };
  asked.on("upgrade", (answer, far, rest) => {
    tell(answer);
    near.write(rest);
    far.write(head);
    pipeline(far, near, far, () => {});
  });
  asked.on("response", (answer) => {
    tell(answer); // refused
    pipeline(answer, near, () => {});
  });
  asked.on("error", () => near.destroy());
  near.on("close", () => asked.destroy());
  asked.end();
});

server.listen(Number(port), () => console.error(`http://localhost:${server.address().port}${prefix}/ -> ${service}`));
