import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import type { types } from 'mediasoup-client';

import { RemoteCandidates } from '../src/candidateRank.ts';
import { IceRestarter } from '../src/iceRestarter.ts';
import { ReceiverWatch } from '../src/receiverWatch.ts';
import { settle } from './fakeServer.ts';

/** Two transports, the parameters that each was restarted with, and the requests, to be answered by the test. */
function transports() {
  const applied: string[] = [];
  const requests: { id: string; answer(name: string): void; fail(): void }[] = [];
  const restarter = new IceRestarter(
    (id) =>
      new Promise((resolve, reject) => {
        requests.push({
          id,
          answer: (name) => resolve({ usernameFragment: name } as types.IceParameters),
          fail: () => reject(new Error('refused')),
        });
      }),
  );
  for (const id of ['send', 'recv']) {
    const transport = {
      id,
      closed: false,
      restartIce: async ({ iceParameters }: { iceParameters: types.IceParameters }) => {
        applied.push(`${id} ${iceParameters.usernameFragment}`);
      },
    };
    restarter.add(transport as unknown as types.Transport);
  }
  const answer = async (name: string): Promise<void> => {
    requests.splice(0).forEach((request) => request.answer(name));
    await settle();
  };
  return { restarter, requests, applied, answer };
}

describe('a restart of ICE', () => {
  test('takes parameters that were fetched in advance, once', async () => {
    const { restarter, requests, applied, answer } = transports();
    await restarter.restartAhead();
    assert.deepEqual(applied, [], 'there are none');
    void restarter.fetchAhead();
    await answer('a');
    await restarter.restartAhead();
    assert.deepEqual(applied, ['send a', 'recv a']);
    await restarter.restartAhead();
    assert.equal(applied.length, 2);
    void restarter.fetchAhead();
    assert.equal(requests.length, 2);
  });

  test('with parameters of the server drops older ones, which end with it', async () => {
    const { restarter, applied, answer } = transports();
    void restarter.fetchAhead();
    await answer('a');
    void restarter.restart();
    await answer('b');
    await restarter.restartAhead();
    assert.deepEqual(applied, ['send b', 'recv b']);
  });

  test('takes what is being fetched', async () => {
    const { restarter, requests, applied, answer } = transports();
    void restarter.fetchAhead();
    requests.shift()?.answer('a');
    await settle();
    void restarter.restart();
    await settle();
    assert.deepEqual(applied, ['send a']);
    await answer('a');
    assert.deepEqual(applied, ['send a', 'recv a']);
    void restarter.fetchAhead();
    assert.equal(requests.length, 2, 'the next ones');
  });

  test('is requested once at a time, and a fetch once after each restart', async () => {
    const { restarter, requests, answer } = transports();
    const restarts = [restarter.restart(), restarter.restart()];
    await restarter.fetchAhead();
    assert.deepEqual(requests.map(({ id }) => id), ['send', 'recv']);
    await answer('a');
    await Promise.all(restarts);
    const fetched = restarter.fetchAhead();
    requests.splice(0).forEach((request) => request.fail());
    await assert.rejects(fetched);
    await restarter.fetchAhead();
    assert.equal(requests.length, 0, 'a server that refuses it is not asked again and again');
  });
});

describe('the watch of a receiver', () => {
  beforeEach(() => mock.timers.enable({ apis: ['setInterval', 'Date'] }));
  afterEach(() => mock.timers.reset());

  /** A watch, and what it reports in a time with or without packets. */
  function watch() {
    const told: string[] = [];
    let [packets, expected] = [0, true];
    const consumer = { closed: false, getStats: async () => [{ type: 'inbound-rtp', packetsReceived: packets }] };
    const listener = {
      expectsPackets: () => expected,
      arrives: () => undefined,
      suspects: () => told.push('suspects'),
      silent: (since: Date) => told.push(`silent since ${since.getTime()}`),
    };
    const watched = new ReceiverWatch(consumer as unknown as types.Consumer, listener, (error) => assert.fail(String(error)));
    const pass = async (ms: number, each: number): Promise<string[]> => {
      for (let passed = 0; passed < ms; passed += 200) {
        packets += each;
        mock.timers.tick(200);
        await settle();
      }
      return told.splice(0);
    };
    return { pass, watched, expect: (expects: boolean) => (expected = expects) };
  }

  test('suspects the path after 0.6 s and is sure after 3 s, once in a silence', async () => {
    const { pass, watched } = watch();
    assert.deepEqual(await pass(5_000, 0), [], 'before the first packet');
    assert.deepEqual(await pass(1_000, 10), []);
    assert.deepEqual(await pass(400, 0), [], 'a pause of Opus');
    assert.deepEqual(await pass(2_400, 0), ['suspects']);
    assert.equal(watched.isSuspected, true);
    assert.equal(watched.isSilent, false);
    assert.deepEqual(await pass(5_000, 0), ['silent since 6000']);
    assert.equal(watched.isSilent, true);
    assert.deepEqual(await pass(200, 10), []);
    assert.equal(watched.isSilent || watched.isSuspected, false);
    assert.deepEqual(await pass(800, 0), ['suspects'], 'another silence');
  });

  test('misses nothing while the RTP of the peer is lost', async () => {
    const { pass, expect } = watch();
    await pass(1_000, 10);
    expect(false);
    assert.deepEqual(await pass(10_000, 0), []);
    expect(true);
    assert.deepEqual(await pass(400, 0), []);
    assert.deepEqual(await pass(400, 0), ['suspects']);
  });
});

/** A connection as the library uses it, whose selected pair has these costs. */
function connection(selected?: { local: number; remote: number }) {
  const added: string[] = [];
  let sdp = '';
  let found: (event: { candidate: unknown }) => void = () => undefined;
  const candidate = (cost: number) => ({ candidate: `candidate:1 1 udp 2113937151 192.0.2.1 9 typ host${cost > 0 ? ` network-cost ${cost}` : ''}` });
  const pair = selected && { local: candidate(selected.local), remote: candidate(selected.remote) };
  const fake = {
    localDescription: { sdp: 'v=0\r\na=ice-ufrag:former\r\n' },
    setRemoteDescription: async (description: { sdp: string }) => {
      sdp = description.sdp;
    },
    addIceCandidate: async (init: { candidate: string }) => void added.push(init.candidate),
    addEventListener: (_name: string, listener: typeof found) => (found = listener),
    getTransceivers: () => [{ receiver: { transport: { iceTransport: { getSelectedCandidatePair: () => pair ?? null } } } }],
  };
  const transport = { handler: { name: 'Chrome111', _pc: fake } };
  const candidates = new RemoteCandidates(transport as unknown as types.Transport);
  const lines = [
    'v=0',
    'a=candidate:udpcandidate 1 udp 1076302079 203.0.113.7 40000 typ host',
    'a=candidate:tcpcandidate 1 tcp 1076276479 203.0.113.7 40000 typ host tcptype passive',
    'a=end-of-candidates',
    '',
  ];
  /** The priorities and costs of a new description, and of what was added since. */
  const ranks = (): string[] => {
    void fake.setRemoteDescription({ sdp: lines.join('\r\n') });
    return read([...sdp.split('\r\n'), ...added.splice(0)]);
  };
  const read = (from: string[]): string[] =>
    from.flatMap((line) => /(udp|tcp) (\d+) .* network-cost (\d+)/.exec(line)?.slice(1).join(' ') ?? []);
  const finds = (cost: number | null, protocol = 'udp', usernameFragment = 'new'): string[] => {
    found({ candidate: cost === null ? null : { ...candidate(cost), protocol, usernameFragment } });
    return read(added.splice(0));
  };
  return { candidates, ranks, finds };
}

describe('the rank of the candidates', () => {
  test('is the lowest at the beginning, with the highest cost', () => {
    const { ranks } = connection();
    assert.deepEqual(ranks(), ['udp 1076302079 999', 'tcp 1076276479 999']);
  });

  test('makes the pair of a new network as cheap as the selected pair, whatever that network costs', () => {
    for (const [network, cost] of [[999, 0], [900, 99], [10, 989], [0, 999]] as const) {
      const { candidates, ranks, finds } = connection({ local: 10, remote: 989 });
      candidates.restarting(false);
      assert.deepEqual(ranks(), [], 'until a network is found');
      assert.deepEqual(finds(0, 'udp', 'former'), [], 'by this restart');
      assert.deepEqual(finds(0, 'tcp'), [], 'and for UDP');
      assert.deepEqual(finds(network), [`udp 1080496383 ${cost}`, `tcp 1080470783 ${cost}`]);
      assert.deepEqual(finds(0), [], 'once');
      assert.deepEqual(ranks(), [`udp 1080496383 ${cost}`, `tcp 1080470783 ${cost}`], 'in later descriptions as well');
    }
  });

  test('has no cost after a repeated restart, without a selected pair, and without UDP', () => {
    const free = ['udp 1080496383 0', 'tcp 1080470783 0'];
    const repeated = connection({ local: 10, remote: 989 });
    repeated.candidates.restarting(true);
    assert.deepEqual(repeated.ranks(), free);
    const unknown = connection();
    unknown.candidates.restarting(false);
    assert.deepEqual(unknown.ranks(), free);
    const tcp = connection({ local: 10, remote: 989 });
    tcp.candidates.restarting(false);
    assert.deepEqual(tcp.ranks(), []);
    assert.deepEqual(tcp.finds(null), free);
  });

  test('rises up to the highest priority', () => {
    const { candidates, ranks } = connection();
    for (let restart = 0; restart < 1_000; restart += 1) {
      candidates.restarting(false);
    }
    assert.deepEqual(ranks(), ['udp 2147483647 0', 'tcp 2147483647 0']);
  });
});
