/** Functions that bench.ts runs in the page. Each is sent as text, so it cannot use anything outside of itself. */

/** Replaces the WebSocket: 5,000 calls at once, then 2,500 changes a second, as ws-edge would send them. */
export function fakeFeed(): void {
  const [CALLS, CHANGES, BATCH_MS, ITEMS] = [5_000, 2_500, 250, 40];
  const time = (ms: number): string => new Date(ms).toISOString();
  const id = (number: number): string => `call_${String(number).padStart(4, '0')}_019abc7de4f07a61a2d7`;
  const begun = Date.now() - 600_000;
  const side = () => ({ lastRtpAt: time(Date.now() - 300), lost: Math.random() < 0.01, packets: 30_000 });
  const call = (number: number, minute: number) => ({
    kind: 'call',
    callId: id(number),
    userId: `user_${String(number)}`,
    otomoId: `otomo_${String(number)}`,
    state: 'connected',
    since: time(begun + number * 100),
    requestedAt: time(begun + number * 100),
    acceptedAt: time(begun + number * 100),
    connectedAt: time(begun + number * 100),
    workerId: `media-worker-${String(number % 20)}`,
    nodeId: 'ws-edge-1',
    lastTick: { minute, at: time(Date.now()) },
    user: side(),
    otomo: side(),
    end: null,
    bill: null,
    traceId: String(number).padStart(32, '4bf92f3577b34da6a3ce929d0e0e4736'),
  });

  class FakeWebSocket extends EventTarget {
    static readonly OPEN = 1;
    readonly readyState = 1;
    #minute = 1;

    constructor() {
      super();
      setTimeout(() => {
        this.#send('welcome', { nodeId: 'bench', at: time(Date.now()) });
        const items = Array.from({ length: CALLS }, (_, number) => call(number, 1));
        const parts = Math.ceil(items.length / ITEMS);
        for (let part = 1; part <= parts; part++) {
          const some = items.slice((part - 1) * ITEMS, part * ITEMS);
          this.#send('snapshot', { at: time(Date.now()), part, parts, awaySince: null, items: some });
        }
        setInterval(() => {
          this.#change();
        }, BATCH_MS);
      });
    }

    send(): void {
      // The bench sends no requests.
    }

    close(): void {
      // Never closed.
    }

    #change(): void {
      this.#minute++;
      const items = Array.from({ length: (CHANGES * BATCH_MS) / 1000 }, (_, place) => {
        const number = Math.floor(Math.random() * CALLS);
        // Most changes are of media columns.
        return place % 8 === 0
          ? call(number, this.#minute)
          : { kind: 'media', callId: id(number), user: side(), otomo: side() };
      });
      for (let from = 0; from < items.length; from += ITEMS) {
        this.#send('changes', { at: time(Date.now()), items: items.slice(from, from + ITEMS) });
      }
    }

    #send(type: string, payload: object): void {
      this.dispatchEvent(new MessageEvent('message', { data: JSON.stringify({ type, payload }) }));
    }
  }
  Object.assign(globalThis, { WebSocket: FakeWebSocket });
}

/** Scrolls, and measures the time between frames. */
export async function measure(seconds: number): Promise<string> {
  const frame = (): Promise<number> => new Promise((resolve) => requestAnimationFrame(resolve));
  const rows = (): number => document.querySelectorAll('.rows .row:not([hidden])').length;
  const grid = (): HTMLElement | null => document.querySelector('.grid');
  while (rows() === 0) {
    await frame();
  }
  const tasks: number[] = [];
  new PerformanceObserver((list) => {
    tasks.push(...list.getEntries().map(({ duration }) => Math.round(duration)));
  }).observe({ entryTypes: ['longtask'] });
  const gaps: number[] = [];
  let before = await frame();
  const end = before + seconds * 1000;
  while (before < end) {
    const scroller = grid();
    if (scroller !== null) {
      scroller.scrollTop = (scroller.scrollTop + 60) % (scroller.scrollHeight - scroller.clientHeight);
    }
    const now = await frame();
    gaps.push(now - before);
    before = now;
  }
  gaps.sort((a, b) => a - b);
  const at = (share: number): string => (gaps[Math.floor(share * (gaps.length - 1))] ?? 0).toFixed(1);
  const total = gaps.reduce((sum, gap) => sum + gap, 0);
  return JSON.stringify({
    calls: document.querySelector('[data-testid=filter-live] b')?.textContent,
    rowElements: document.querySelectorAll('.rows .row').length,
    framesPerSecond: Number(((gaps.length * 1000) / total).toFixed(1)),
    frameMs: { median: at(0.5), p95: at(0.95), p99: at(0.99), longest: at(1) },
    longTasks: tasks.length,
    longestTaskMs: Math.max(0, ...tasks),
  });
}
