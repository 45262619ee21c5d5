import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';

import type { types } from 'mediasoup-client';

import { rankCandidates } from '../src/candidateRank.ts';
import { IceRestarter } from '../src/iceRestarter.ts';
import { ReceiverWatch } from '../src/receiverWatch.ts';
import { settle } from './fakeServer.ts';

/** Two transports, the parameters that each was restarted with, and the requests, to be answered by the test. */
function transports() {
  const applied: string[] = [];
  const connections: { sdp: string; setRemoteDescription(description: { sdp: string }): Promise<void> }[] = [];
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
    const connection = {
      sdp: '',
      setRemoteDescription: async ({ sdp }: { sdp: string }) => {
        connection.sdp = sdp;
      },
    };
    connections.push(connection);
    const transport = {
      id,
      closed: false,
      handler: { name: 'Chrome111', _pc: connection },
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
  /** The remote descriptions, as they are now. */
  const described = (): string[] =>
    connections.map((connection) => {
      void connection.setRemoteDescription({ sdp: 'a=candidate:udpcandidate 1 udp 1076302079 203.0.113.7 40000 typ host' });
      return connection.sdp;
    });
  return { restarter, requests, applied, described, answer };
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

describe('the rank of the candidates', () => {
  const sdp = [
    'v=0',
    'a=candidate:udpcandidate 1 udp 1076302079 203.0.113.7 40000 typ host',
    'a=candidate:tcpcandidate 1 tcp 1076276479 203.0.113.7 40000 typ host tcptype passive',
    'a=end-of-candidates',
    '',
  ].join('\r\n');

  test('rises with each restart, for all of them alike', () => {
    assert.deepEqual(rankCandidates(sdp, 1).split('\r\n'), [
      'v=0',
      'a=candidate:udpcandidate 1 udp 1080496383 203.0.113.7 40000 typ host network-cost 0',
      'a=candidate:tcpcandidate 1 tcp 1080470783 203.0.113.7 40000 typ host tcptype passive network-cost 0',
      'a=end-of-candidates',
      '',
    ]);
    assert.match(rankCandidates(sdp, 0), /udp 1076302079 .* network-cost 999/);
    assert.match(rankCandidates(sdp, 1_000_000), /udp 2147483647 /);
  });

  test('of each transport follows its restarts', async () => {
    const { restarter, described, answer } = transports();
    const ranks = (): string[] => described().map((sdp) => /udp (\d+) .* network-cost (\d+)/.exec(sdp)?.slice(1).join() ?? '');
    assert.deepEqual(ranks(), ['1076302079,999', '1076302079,999']);
    void restarter.fetchAhead();
    await answer('a');
    assert.deepEqual(ranks(), ['1076302079,999', '1076302079,999']);
    await restarter.restartAhead();
    assert.deepEqual(ranks(), ['1080496383,0', '1080496383,0']);
    void restarter.restart();
    await answer('b');
    assert.deepEqual(ranks(), ['1084690687,0', '1084690687,0']);
  });
});
