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
  onNetworkGone: (listener) => listen('offline', listener),
  onNetworkBack: (listener) => listen('online', listener),
};

/** Outside of browsers there is no window, and no event. */
function listen(event: 'offline' | 'online', listener: () => void): () => void {
  if (typeof globalThis.addEventListener !== 'function') {
    return () => undefined;
  }
  globalThis.addEventListener(event, listener);
  return () => globalThis.removeEventListener(event, listener);
}
