"""Wakes the otomo's phone when a call rings, for otomos without a connection (`offline_otomo = ring`).

NATS_URL, NATS_USER and NATS_PASSWORD come from the environment; `pip install nats-py`.
"""

import asyncio, json, os
import nats

async def push(otomo, call):
    # Your push service, with a time to live: after 30 s the call no longer rings.
    print("wake", otomo, "for", call, flush=True)

async def main():
    user, password = os.environ.get("NATS_USER", "observer"), os.environ["NATS_PASSWORD"]
    client = await nats.connect(os.environ["NATS_URL"], user=user, password=password)
    # A queue group: each request wakes once, however many instances there are.
    async for fact in (await client.subscribe("call.*.requested", queue="wake")).messages:
        call = json.loads(fact.data)
        await push(call["otomoId"], call["callId"])

asyncio.run(main())
