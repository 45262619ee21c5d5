import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { CallRow, CallState, RowUpdate } from '../src/generated/ops.ts';
import { type Column, COLUMNS } from '../src/columns.ts';
import { ReadModel } from '../src/readModel.ts';
import { select, type Selection } from '../src/selection.ts';

const at = (seconds: number): string => new Date(1_700_000_000_000 + seconds * 1000).toISOString();

function call(number: number, state: CallState = 'connected', more: Partial<CallRow> = {}): CallRow & { kind: 'call' } {
  return {
    kind: 'call',
    callId: `call_${String(number)}`,
    userId: `user_${String(number)}`,
    otomoId: `otomo_${String(number)}`,
    state,
    since: at(number),
    requestedAt: at(number),
    acceptedAt: null,
    connectedAt: null,
    workerId: `mw_${String(number % 2)}`,
    nodeId: null,
    lastTick: null,
    user: null,
    otomo: null,
    end: null,
    bill: null,
    traceId: 'f'.repeat(32),
    ...more,
  };
}

function complete(...updates: RowUpdate[]): ReadModel {
  const model = new ReadModel();
  model.snapshot({ at: at(0), part: 1, parts: 1, awaySince: null, items: updates });
  return model;
}

function column(name: string): Column {
  const found = COLUMNS.find((column) => column.name === name);
  assert.ok(found, name);
  return found;
}

const LIVE: Selection = { filter: 'live', search: '', column: column('since'), isDescending: true };
const ids = (model: ReadModel, selection: Partial<Selection> = {}): string[] =>
  select(model.calls.values(), { ...LIVE, ...selection }).map(({ row }) => row.callId);

test('calls are added, changed, removed and counted', () => {
  const model = complete(call(1, 'ringing'), call(2), call(3));
  assert.equal(model.counts().live, 3);
  model.apply([
    call(1, 'connected'),
    call(2, 'settled'),
    { kind: 'media', callId: 'call_3', user: { lastRtpAt: at(9), lost: true, packets: 5 }, otomo: null },
    { kind: 'media', callId: 'call_9', user: null, otomo: null },
  ]);
  assert.deepEqual(model.counts(), {
    ringing: 0,
    accepted: 0,
    connected: 2,
    ended: 0,
    settled: 1,
    live: 2,
    over: 1,
    lost: 1,
  });
  assert.deepEqual(ids(model, { filter: 'lost' }), ['call_3']);
  model.apply([
    { kind: 'gone', what: 'call', id: 'call_3' },
    { kind: 'gone', what: 'call', id: 'call_3' },
  ]);
  assert.equal(model.counts().lost, 0);
  assert.deepEqual(ids(model), ['call_1']);
  assert.deepEqual(ids(model, { filter: 'over' }), ['call_2']);
});

test('a snapshot replaces all rows and is complete with its last part', () => {
  const model = complete(
    call(1),
    { kind: 'timer', instanceId: 'bt', seenAt: at(0) },
    { kind: 'lease', partition: 63, instanceId: 'bt' },
  );
  model.snapshot({ at: at(1), part: 1, parts: 2, awaySince: at(1), items: [call(2)] });
  assert.deepEqual(
    [model.isComplete, model.timers.size, model.leases[63], model.awaySince?.getTime()],
    [false, 0, null, Date.parse(at(1))],
  );
  model.snapshot({ at: at(1), part: 2, parts: 2, awaySince: null, items: [call(3)] });
  assert.deepEqual([model.isComplete, model.awaySince, ids(model)], [true, null, ['call_3', 'call_2']]);
});

test('calls are found by any identifier and sorted by the selected column', () => {
  const model = complete(
    call(10),
    call(2),
    call(30, 'connected', { lastTick: { minute: 4, at: at(1) } }),
    call(4, 'ringing'),
  );
  assert.deepEqual(ids(model), ['call_30', 'call_10', 'call_4', 'call_2']);
  assert.deepEqual(ids(model, { search: 'MW_0 user_1' }), ['call_10']);
  assert.deepEqual(ids(model, { search: 'nobody' }), []);
  assert.deepEqual(ids(model, { column: column('ticks') })[0], 'call_30');
  assert.deepEqual(ids(model, { column: column('state'), isDescending: false })[0], 'call_4');
  assert.deepEqual(ids(model, { filter: 'ringing' }), ['call_4']);
});

test('states, rows and tables of a later server break no count', () => {
  const state = 'on_hold' as CallState;
  const model = complete(call(1), call(2, state, { lastTick: { minute: 1, at: at(1) } }));
  const { live, over, connected } = model.counts();
  assert.deepEqual({ live, over, connected }, { live: 2, over: 0, connected: 1 });
  for (const count of Object.values(model.counts())) {
    assert.ok(Number.isSafeInteger(count), String(count));
  }
  assert.deepEqual(ids(model, { column: column('state'), isDescending: false }), ['call_2', 'call_1']);
  const unknown = [
    { kind: 'moon', phase: 'full' },
    { kind: 'gone', what: 'moon', id: 'm' },
  ] as unknown as RowUpdate[];
  model.apply([...unknown, call(2, 'ended'), { kind: 'gone', what: 'call', id: 'call_1' }]);
  assert.deepEqual(model.counts(), { ...complete(call(2, 'ended')).counts() });
});

test('fleet rows are added and removed', () => {
  const model = complete();
  const edge: RowUpdate = { kind: 'edge', nodeId: 'e', sockets: 1, operators: 0, at: at(0), startedAt: at(0) };
  model.apply([
    edge,
    { kind: 'lease', partition: 5, instanceId: 'bt' },
    { kind: 'lease', partition: 64, instanceId: 'bt' },
  ]);
  assert.deepEqual([model.edges.size, model.leases[5], model.leases.length], [1, 'bt', 64]);
  model.apply([
    { kind: 'gone', what: 'edge', id: 'e' },
    { kind: 'lease', partition: 5, instanceId: null },
  ]);
  assert.deepEqual([model.edges.size, model.leases[5]], [0, null]);
});
