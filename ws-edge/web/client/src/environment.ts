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
  onNetworkBack: (listener) => {
    if (typeof globalThis.addEventListener !== 'function') {
      return () => undefined;
    }
    globalThis.addEventListener('online', listener);
    return () => globalThis.removeEventListener('online', listener);
  },
};
