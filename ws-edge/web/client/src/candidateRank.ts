/**
 * Ranks the server's candidates, so that a path that works replaces a dead one at once.
 *
 * libwebrtc (Chrome, Safari) keeps a selected pair for 3.5 s after its path has died, though another one works: it counts as receiving for
 * 2.5 s, and is kept for 1 s more. The server learns of the new pair with the next check, up to 2.5 s later. A *better* pair, in contrast,
 * is selected as soon as it works, and nominated at once. Pairs compare by their cost first, then by their priority, and both contain
 * those of the server's candidate. So these improve with each restart of ICE: the priority always, the cost only once, to 0.
 */

import type { types } from 'mediasoup-client';

/** The highest `network-cost` of libwebrtc. The cost of a mobile network is 890 above that of Wi-Fi; a socket without an interface has 999. */
const FIRST_COST = 999;
/** More than the server's candidates, UDP and TCP, differ among themselves. */
const PRIORITY_STEP = 2 ** 22;
/** RFC 8445, section 5.1.2. */
const MAX_PRIORITY = 2 ** 31 - 1;
const CANDIDATE = /^(a=candidate:\S+ \d+ \S+) (\d+) (.*)$/gm;

/** The session description with the rank of its candidates after so many restarts. */
export function rankCandidates(sdp: string, restarts: number): string {
  const cost = String(restarts === 0 ? FIRST_COST : 0);
  return sdp.replace(CANDIDATE, (_line, head: string, priority: string, rest: string) => {
    const better = Math.min(Number(priority) + restarts * PRIORITY_STEP, MAX_PRIORITY);
    return `${head} ${String(better)} ${rest} network-cost ${cost}`;
  });
}

/**
 * Ranks all further remote candidates of a transport. mediasoup-client hides the connection: should a later version move it, restarts
 * still work, but take as long as libwebrtc does.
 */
export function rankRemoteCandidates(transport: types.Transport, restarts: () => number): void {
  const handler = transport.handler as unknown as { readonly name: string; readonly _pc?: RTCPeerConnection } | undefined;
  const connection = handler?._pc;
  if (connection === undefined || handler?.name.startsWith('Firefox') === true) {
    return;
  }
  const set = connection.setRemoteDescription.bind(connection);
  connection.setRemoteDescription = ({ type, sdp }) => set({ type, sdp: rankCandidates(sdp ?? '', restarts()) });
}
