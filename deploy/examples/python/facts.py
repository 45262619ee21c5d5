"""The facts of calls, for another team.

    facts.py live                         facts as they are published
    facts.py durable                      every stored fact once, and after a restart from where it stopped
    facts.py replay 2026-11-26T09:00:00Z  the stored facts since a time
    facts.py terminate CALL_ID            end a call; needs `--may-terminate` of `callctl team add`

NATS_URL, NATS_USER and NATS_PASSWORD come from the environment; `pip install nats-py`.
"""

import asyncio, json, os, sys
import nats

API = "CALLPULSE.API"  # your account's part of JetStream's API
USER = os.environ.get("NATS_USER", "observer")

async def live(client):
    async for fact in (await client.subscribe("call.*.*")).messages:
        print(fact.subject, fact.data.decode(), flush=True)

async def durable(client):
    facts = await client.jetstream(prefix=API).pull_subscribe_bind(USER, "CALLS")
    seen = set()  # a fact may be delivered again: make `ce-id` a unique column of your table
    while True:
        try:
            [fact] = await facts.fetch(1, timeout=5)  # of more, nats-py may return the first only after the timeout
        except nats.errors.TimeoutError:
            continue
        if (event := fact.headers["ce-id"]) not in seen:
            seen.add(event)
            print(fact.subject, fact.data.decode(), flush=True)
        await fact.ack()

async def replay(client, since):
    start, more = {"start_time": since}, True
    while more:
        inbox = client.new_inbox()
        answers = await client.subscribe(inbox)
        request = {**start, "next_by_subj": "call.*.*", "batch": 256}
        await client.publish(f"{API}.DIRECT.GET.CALLS", json.dumps(request).encode(), reply=inbox)
        while "Nats-Subject" in (fact := await answers.next_msg()).headers:
            print(fact.headers["Nats-Subject"], fact.data.decode(), flush=True)
            start = {"seq": int(fact.headers["Nats-Sequence"]) + 1}
        more = int(fact.headers.get("Nats-Num-Pending", 0)) > 0
        await answers.unsubscribe()

async def terminate(client, call):
    answer = await client.request(f"cmd.call.{call}.terminate", json.dumps({"by": USER}).encode(), timeout=10)
    print((answer.headers or {}).get("Nats-Service-Error") or answer.data.decode())

async def main(command="", *arguments):
    run = {"live": live, "durable": durable, "replay": replay, "terminate": terminate}.get(command) or sys.exit(__doc__)
    client = await nats.connect(os.environ["NATS_URL"], user=USER, password=os.environ["NATS_PASSWORD"])
    await run(client, *arguments)

asyncio.run(main(*sys.argv[1:]))
