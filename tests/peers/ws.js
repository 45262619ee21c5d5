// Notices with Node and `ws`: authenticates, subscribes for the party, welcomes, forwards.
// Tuned as the documentation of `ws` advises: no compression, no tracking of clients, `noServer`, a bounded payload.
import { createServer } from "node:http";
import { connect } from "@nats-io/transport-node";
import { WebSocketServer } from "ws";
import { partyOf, welcome } from "./token.js";

const nats = await connect({ servers: process.env.NATS_URL, noAsyncTraces: true });
const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false, maxPayload: 65536 });
const server = createServer();
server.on("upgrade", (request, socket, head) => {
  const party = partyOf(request.headers.authorization);
  if (!party) return socket.end("HTTP/1.1 401 Unauthorized\r\n\r\n");
  socket.setNoDelay(true);
  sockets.handleUpgrade(request, socket, head, (ws) => {
    // As a buffer: `ws` writes it without decoding and encoding it.
    const callback = (error, message) => error ?? ws.send(message.data, { binary: false });
    const subscription = nats.subscribe(`${party}.*`, { callback });
    ws.on("close", () => subscription.unsubscribe());
    ws.on("error", () => ws.terminate());
    nats.flush().then(() => ws.send(welcome));
  });
});
server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => console.log(server.address().port));
