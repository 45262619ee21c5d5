/** The browser as {@link Environment}. */

import { Device } from 'mediasoup-client';

import type { Environment, Socket } from './options.ts';
import { toCallpulseError } from './error.ts';

export const browser: Environment = {
  openSocket: (url, protocols) => new WebSocket(url, protocols) as unknown as Socket,
  createDevice: async () => {
    try {
      return await Device.factory();
    } catch (error) {
      throw toCallpulseError(error, 'browser_unsupported');
    }
  },
  random: () => Math.random(),
  onNetworkGone: (listener) => listen(globalThis, 'offline', listener),
  onNetworkBack: (listener) => listen(globalThis, 'online', listener),
  // Network Information API, where there is one.
  onNetworkChange: (listener) => {
    const { connection } = (globalThis.navigator ?? {}) as { connection?: EventTarget };
    return listen(connection, 'change', listener);
  },
};

/** Outside of browsers there are no events. */
function listen(target: Partial<EventTarget> | undefined, event: string, listener: () => void): () => void {
  if (typeof target?.addEventListener !== 'function') {
    return () => undefined;
  }
  target.addEventListener(event, listener);
  return () => target.removeEventListener?.(event, listener);
}
