#!/usr/bin/env python3
"""A small wallet for callpulse: answers wallet.authorize, extends calls on credit_low, and charges what is settled.

    wallet.py deposit user_001 500
    wallet.py balances
    wallet.py serve
"""

import argparse
import asyncio
import json
import os
import signal
import sys

import nats
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import NotFoundError

from ledger import Grant, Ledger, Price

AUTHORIZE = "wallet.authorize"
STREAM = "CALLS"
API_PREFIX = "CALLPULSE.API"
# Wallets that run at the same time share the questions and the consumer, which `callctl team add wallet` creates.
GROUP = "wallet"
RELEASE_AFTER_S = 60.0
GRANT_TIMEOUT_S = 3.0
STOP_TIMEOUT_S = 3.0


def log(event: str, **fields) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


class Wallet:
    def __init__(self, options: argparse.Namespace, ledger: Ledger):
        self.options = options
        self.ledger = ledger
        self.client = None
        self.stream = None

    async def run(self) -> None:
        self.client = await nats.connect(
            self.options.nats_url,
            user=self.options.nats_user,
            password=self.options.nats_password,
            name="wallet",
            max_reconnect_attempts=-1,
        )
        self.stream = self.client.jetstream(prefix=API_PREFIX)
        questions = await self.client.subscribe(AUTHORIZE, queue=GROUP, cb=self.authorize)
        await self.client.flush()
        log("ready")
        stop = asyncio.Event()
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
        tasks = [asyncio.create_task(work) for work in (self.follow_facts(), self.every_second(), stop.wait())]
        done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        try:
            # What it was asked before is answered; another wallet is asked from now on.
            await asyncio.wait_for(questions.drain(), STOP_TIMEOUT_S)
        except (NatsError, asyncio.TimeoutError) as error:
            log("questions not drained", error=str(error))
        await self.client.close()
        for task in done:
            task.result()

    def crash(self, point: str) -> None:
        """For tests: dies here, as by SIGKILL."""
        if self.options.crash_at == point:
            os._exit(137)

    async def authorize(self, message) -> None:
        try:
            question = json.loads(message.data)
            call_id, user_id = str(question["callId"]), str(question["userId"])
        except (ValueError, KeyError, TypeError):
            log("question refused", subject=message.subject)
            return
        self.crash("before_reservation")
        grant = self.ledger.authorize(call_id, user_id)
        self.crash("before_answer")
        if grant is None:
            answer = {"allow": False, "code": "insufficient_balance", "message": "The balance does not cover one minute."}
        else:
            answer = {"allow": True, "grantId": grant.grant_id, "untilMs": grant.until_ms}
        log("authorized", call_id=call_id, user_id=user_id, allow=answer["allow"], until_ms=answer.get("untilMs"))
        await message.respond(json.dumps(answer).encode())
        await self.client.flush()
        self.crash("after_answer")

    async def follow_facts(self) -> None:
        facts = await self.stream.pull_subscribe_bind(consumer=GROUP, stream=STREAM)
        while True:
            try:
                # One at a time: for more, nats-py waits until the timeout, which may be longer than a call has credit.
                [message] = await facts.fetch(1, timeout=1)
            except (NatsTimeout, asyncio.TimeoutError):
                continue
            except NatsError as error:
                log("facts not read, trying again", error=str(error))
                await asyncio.sleep(0.5)
                continue
            await self.apply(message)

    async def apply(self, message) -> None:
        """Acknowledges a fact once its effect is durable. Facts of other kinds need none."""
        kind = message.subject.rsplit(".", 1)[-1]
        try:
            fact = json.loads(message.data)
            if kind == "requested":
                self.ledger.requested(fact["callId"], fact["userId"], fact.get("grantId"))
            elif kind == "credit_low":
                if not await self.renew(fact["callId"], fact["untilMs"]):
                    await message.nak(delay=0.5)
                    return
            elif kind == "settled":
                self.crash("before_settlement")
                self.ledger.settled(fact["callId"], fact["userId"], fact["billedMinutes"])
                log("settled", call_id=fact["callId"], billed_minutes=fact["billedMinutes"])
                self.crash("after_settlement")
        except (ValueError, KeyError, TypeError) as error:
            log("fact skipped: it cannot be read", subject=message.subject, error=str(error))
        await message.ack()

    async def renew(self, call_id: str, until_ms: int) -> bool:
        """Whether nothing is left to do."""
        self.crash("before_renewal")
        grant = self.ledger.renew(call_id, until_ms)
        self.crash("after_renewal")
        if grant is None:
            log("not renewed", call_id=call_id)
            return True
        done = await self.send_grant(call_id, grant)
        self.crash("after_grant")
        return done

    async def send_grant(self, call_id: str, grant: Grant) -> bool:
        payload = json.dumps({"grantId": grant.grant_id, "untilMs": grant.until_ms}).encode()
        try:
            answer = await self.client.request(f"cmd.call.{call_id}.grant", payload, timeout=GRANT_TIMEOUT_S)
        except (NatsError, asyncio.TimeoutError) as error:
            log("grant not answered, trying again", call_id=call_id, error=str(error))
            return False
        refused = (answer.headers or {}).get("Nats-Service-Error")
        log("granted", call_id=call_id, until_ms=grant.until_ms, refused=refused)
        # `internal` and `at_capacity` pass. Another refusal is final: what was reserved is refunded by the settlement.
        return refused is None or not refused.startswith(("internal", "at_capacity"))

    async def every_second(self) -> None:
        while True:
            await asyncio.sleep(1)
            # After a deposit, calls go on that had nothing left.
            for call_id, until_ms in self.ledger.wanted():
                if await self.renew(call_id, until_ms):
                    self.ledger.answered(call_id, until_ms)
            for call_id in self.ledger.unconfirmed(self.options.release_after_s):
                await self.release(call_id)

    async def release(self, call_id: str) -> None:
        try:
            # The stream decides, and not what this wallet has read of it.
            await self.stream.get_last_msg(STREAM, f"call.{call_id}.requested", direct=True)
        except NotFoundError:
            self.ledger.release(call_id)
            log("reservation released", call_id=call_id)
        except (NatsError, asyncio.TimeoutError) as error:
            log("stream not readable, trying again", error=str(error))


def parse() -> argparse.Namespace:
    env = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", default=env("WALLET_DATABASE", "wallet.sqlite"))
    parser.add_argument("--price", type=int, default=10, help="of one interval, in the smallest unit of the currency")
    parser.add_argument("--interval-ms", type=int, default=60_000, help="as in the terms of the calls")
    parser.add_argument("--first-intervals", type=int, default=2, help="reserved before a call rings")
    parser.add_argument("--renew-intervals", type=int, default=1, help="reserved on each credit_low")
    parser.add_argument("--max-ms", type=int, default=14_400_000, help="the maximum duration of a call")
    parser.add_argument("--opening-balance", type=int, default=0, help="of a user who is seen for the first time")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve")
    serve.add_argument("--nats-url", default=env("WALLET_NATS_URL", "nats://127.0.0.1:4222"))
    serve.add_argument("--nats-user", default="wallet")
    serve.add_argument("--release-after-s", type=float, default=RELEASE_AFTER_S)
    serve.add_argument("--crash-at", help=argparse.SUPPRESS)
    deposit = commands.add_parser("deposit")
    deposit.add_argument("user_id")
    deposit.add_argument("amount", type=int)
    commands.add_parser("balances")
    options = parser.parse_args()
    # Not an option: others can read the command lines of a machine.
    options.nats_password = env("NATS_WALLET_PASSWORD", "")
    if min(options.price, options.interval_ms, options.first_intervals, options.renew_intervals) < 1:
        parser.error("price, intervals and interval-ms are at least 1")
    if min(options.opening_balance, getattr(options, "amount", 0)) < 0:
        parser.error("amounts are at least 0")
    return options


def main() -> int:
    options = parse()
    price = Price(
        options.price,
        options.interval_ms,
        options.first_intervals,
        options.renew_intervals,
        options.max_ms,
        options.opening_balance,
    )
    ledger = Ledger(options.database, price)
    try:
        if options.command == "deposit":
            ledger.deposit(options.user_id, options.amount)
        elif options.command == "balances":
            for account in ledger.balances():
                print(json.dumps(account))
        else:
            asyncio.run(Wallet(options, ledger).run())
    finally:
        ledger.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
