// Notices with uWebSockets, as Bun ships it (`Bun.serve`): authenticates, subscribes for the party, welcomes, forwards.
// Tuned as Bun's documentation advises: handlers shared by all sockets, no compression.
import { connect } from "@nats-io/transport-node";
import { partyOf, welcome } from "./token.js";

const nats = await connect({ servers: process.env.NATS_URL, noAsyncTraces: true });
const text = new TextDecoder();
const server = Bun.serve({
  port: 0,
  hostname: "127.0.0.1",
  fetch(request, server) {
    const party = partyOf(request.headers.get("authorization"));
    if (party && server.upgrade(request, { data: { party } })) return undefined;
    return new Response("", { status: 401 });
  },
  websocket: {
    perMessageDeflate: false,
    maxPayloadLength: 65536,
    open(ws) {
      const callback = (error, message) => error ?? ws.sendText(text.decode(message.data));
      ws.data.subscription = nats.subscribe(`${ws.data.party}.*`, { callback });
      nats.flush().then(() => ws.sendText(welcome));
    },
    message() {},
    close(ws) {
      ws.data.subscription.unsubscribe();
    },
  },
});
console.log(server.port);
