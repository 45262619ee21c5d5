// The facts of calls, for another team; Node 22.18 or later runs it as it is.
//
//   node facts.ts live                         facts as they are published
//   node facts.ts durable                      every stored fact once, and after a restart from where it stopped
//   node facts.ts replay 2026-11-26T09:00:00Z  the stored facts since a time
//   node facts.ts terminate CALL_ID            end a call; needs the user `wallet`
//
// NATS_URL, NATS_USER and NATS_PASSWORD come from the environment.
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

const apiPrefix = "CALLPULSE.API"; // your account's part of JetStream's API
const { NATS_URL: servers, NATS_USER: user = "observer", NATS_PASSWORD: pass } = process.env;
const client = await connect({ servers, user, pass });

async function live() {
  for await (const fact of client.subscribe("call.*.*")) console.log(fact.subject, fact.string());
}

async function durable() {
  const consumer = await jetstream(client, { apiPrefix }).consumers.get("CALLS", user);
  const seen = new Set<string>(); // a fact may be delivered again: make `ce-id` a unique column of your table
  for await (const fact of await consumer.consume()) {
    const event = fact.headers?.get("ce-id") ?? "";
    if (!seen.has(event)) console.log(fact.subject, fact.string());
    seen.add(event);
    fact.ack();
  }
}

async function replay(since: string) {
  const manager = await jetstreamManager(client, { apiPrefix, checkAPI: false });
  const { last_seq: end } = (await manager.streams.info("CALLS")).state;
  let from: { start_time: Date } | { seq: number } = { start_time: new Date(since) };
  while (!("seq" in from) || from.seq <= end) {
    const facts = await manager.direct.getBatch("CALLS", { ...from, next_by_subj: "call.*.*", batch: 256 });
    for await (const fact of facts) {
      console.log(fact.subject, fact.string());
      from = { seq: fact.seq + 1 };
    }
  }
}

async function terminate(call: string) {
  const answer = await client.request(`cmd.call.${call}.terminate`, JSON.stringify({ by: user }), { timeout: 10_000 });
  console.log(answer.headers?.get("Nats-Service-Error") || answer.string());
}

const commands: Record<string, (argument: string) => Promise<void>> = { live, durable, replay, terminate };
const [command = "", argument = ""] = process.argv.slice(2);
await commands[command]?.(argument);
await client.close();
