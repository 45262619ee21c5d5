/**
 * Ranks the server's candidates, so that a path that works replaces a dead one at once.
 *
 * libwebrtc (Chrome, Safari) keeps a selected pair for 3.5 s after its path has died, though another one works: it counts as receiving for
 * 2.5 s, and another pair must have been receiving for 1 s. The server learns of the new pair with the next check, up to 2.5 s later. A
 * *better* pair, in contrast, is selected as soon as it works, and nominated at once. Pairs compare by their cost first, then by their
 * priority, and both contain those of the server's candidate. So its priority improves with each restart of ICE, and its cost makes up for
 * that of the network which the client has found: the pair costs as much as the selected one, and is better by its priority.
 */

import type { types } from 'mediasoup-client';

/** The highest `network-cost` of libwebrtc: of a socket without an interface. A mobile network has 900, Wi-Fi 10. */
const MAX_COST = 999;
/** More than the server's candidates, UDP and TCP, differ among themselves. */
const PRIORITY_STEP = 2 ** 22;
/** RFC 8445, section 5.1.2. */
const MAX_PRIORITY = 2 ** 31 - 1;
const CANDIDATE = /^a=(candidate:\S+ \d+ \S+) (\d+) (.*)$/;

/** A candidate line with its rank after so many restarts; null for another line. */
function ranked(line: string, restarts: number, cost: number): string | null {
  const [, head, priority, rest] = CANDIDATE.exec(line) ?? [];
  if (head === undefined) {
    return null;
  }
  const better = Math.min(Number(priority) + restarts * PRIORITY_STEP, MAX_PRIORITY);
  return `a=${head} ${String(better)} ${rest ?? ''} network-cost ${String(cost)}`;
}

/** The network's cost of a candidate, which libwebrtc writes unless it is 0. */
function costOf(candidate: RTCIceCandidate | null | undefined): number {
  return Number(/ network-cost (\d+)/.exec(candidate?.candidate ?? '')?.[1] ?? 0);
}

function ufragOf(connection: RTCPeerConnection): string | undefined {
  return /^a=ice-ufrag:(\S+)/m.exec(connection.localDescription?.sdp ?? '')?.[1];
}

/** What newer libraries of types have. */
interface IceTransport {
  getSelectedCandidatePair?(): { readonly local: RTCIceCandidate; readonly remote: RTCIceCandidate } | null;
}

/**
 * The server's candidates of one transport. mediasoup-client hides the connection: should a later version move it, restarts still work,
 * but take as long as libwebrtc does.
 */
export class RemoteCandidates {
  readonly #connection: RTCPeerConnection | undefined;
  #restarts = 0;
  /** The cost of the candidates since the last restart; null until the client has found a network. */
  #cost: number | null = MAX_COST;
  /** What a pair may cost to be better than the selected one. */
  #limit = 0;
  #formerUfrag: string | undefined;
  /** Candidates that wait for their cost. */
  #withheld: string[] = [];

  constructor(transport: types.Transport) {
    const handler = transport.handler as unknown as { readonly name: string; readonly _pc?: RTCPeerConnection } | undefined;
    const connection = handler?.name.startsWith('Firefox') === true ? undefined : handler?._pc;
    this.#connection = connection;
    if (connection === undefined) {
      return;
    }
    const set = connection.setRemoteDescription.bind(connection);
    connection.setRemoteDescription = ({ type, sdp }) => set({ type, sdp: this.#rank(sdp ?? '') });
    connection.addEventListener('icecandidate', ({ candidate }) => this.#found(candidate));
  }

  /** Before each restart; a repeated one prefers whatever works. */
  restarting(isRepeated: boolean): void {
    const connection = this.#connection;
    if (connection === undefined) {
      return;
    }
    this.#restarts += 1;
    this.#withheld = [];
    this.#formerUfrag = ufragOf(connection);
    const ice = connection.getTransceivers()[0]?.receiver.transport?.iceTransport as IceTransport | undefined;
    const selected = ice?.getSelectedCandidatePair?.();
    this.#limit = costOf(selected?.local) + costOf(selected?.remote);
    this.#cost = isRepeated || this.#limit === 0 ? 0 : null;
  }

  #rank(sdp: string): string {
    const cost = this.#cost;
    const candidates = (line: string): string | null => ranked(line, this.#restarts, cost ?? 0);
    const lines = sdp.split('\r\n');
    if (cost !== null) {
      return lines.map((line) => candidates(line) ?? line).join('\r\n');
    }
    // Those of the first medium count for all of them (BUNDLE).
    this.#withheld = [...new Set(lines.filter((line) => candidates(line) !== null))];
    return lines.filter((line) => candidates(line) === null).join('\r\n');
  }

  /** The client's first address, or the end of its search (null). A network that is gone has candidates for TCP only. */
  #found(candidate: RTCIceCandidate | null): void {
    if (this.#cost !== null || (candidate !== null && (candidate.protocol !== 'udp' || candidate.usernameFragment === this.#formerUfrag))) {
      return;
    }
    const cost = candidate === null ? 0 : Math.min(Math.max(this.#limit - costOf(candidate), 0), MAX_COST);
    this.#cost = cost;
    for (const line of this.#withheld.splice(0)) {
      const rankedLine = ranked(line, this.#restarts, cost)?.slice('a='.length);
      // If the connection is closed, nothing is lost.
      this.#connection?.addIceCandidate({ candidate: rankedLine ?? '', sdpMLineIndex: 0 }).catch(() => undefined);
    }
  }
}
