/** The browser, as the library uses it. */

import { Device } from 'mediasoup-client';

import type { Environment, Socket } from './options.ts';
import { problem } from './problem.ts';

export const browser: Environment = {
  openSocket: (url, protocols) => new WebSocket(url, protocols) as unknown as Socket,
  createDevice: async () => {
    try {
      return await Device.factory();
    } catch (error) {
      throw problem(error, 'browser_unsupported');
    }
  },
  random: () => Math.random(),
  onNetworkGone: (listener) => listen('offline', listener),
  onNetworkBack: (listener) => listen('online', listener),
};

/** Of the window; outside of a browser there is none. */
function listen(event: 'offline' | 'online', listener: () => void): () => void {
  if (typeof globalThis.addEventListener !== 'function') {
    return () => undefined;
  }
  globalThis.addEventListener(event, listener);
  return () => globalThis.removeEventListener(event, listener);
}
