/** Sources of outgoing audio. */

import type { AudioSource } from './options.ts';
import { CallpulseError, toCallpulseError } from './error.ts';

/** A track, and how to release its device. */
export interface OpenSource {
  readonly track: MediaStreamTrack;
  stop(): void;
}

const TONE_HZ = 440;
/** Relative to full scale. */
const TONE_GAIN = 0.1;
/** An allowed context starts at once; one that autoplay rules block never does. */
const TONE_START_MS = 1_000;

/** Opens a source. @throws CallpulseError with advice */
export async function openSource(source: AudioSource): Promise<OpenSource> {
  if (source === 'microphone') {
    return openMicrophone();
  }
  if (source === 'tone') {
    return openTone();
  }
  if (typeof source === 'function') {
    try {
      const track = await source();
      return { track, stop: () => track.stop() };
    } catch (error) {
      throw toCallpulseError(error, microphoneCode(error));
    }
  }
  return { track: source, stop: () => undefined };
}

async function openMicrophone(): Promise<OpenSource> {
  const devices = globalThis.navigator?.mediaDevices as MediaDevices | undefined;
  if (devices === undefined) {
    throw new CallpulseError(globalThis.isSecureContext === false ? 'microphone_insecure' : 'browser_unsupported');
  }
  try {
    const stream = await devices.getUserMedia({ audio: true });
    const [track] = stream.getAudioTracks();
    if (track === undefined) {
      throw new CallpulseError('microphone_missing');
    }
    return { track, stop: () => track.stop() };
  } catch (error) {
    throw toCallpulseError(error, microphoneCode(error));
  }
}

/** By the names of getUserMedia's errors (W3C Media Capture and Streams, 10.3). */
export function microphoneCode(error: unknown): 'microphone_refused' | 'microphone_missing' | 'microphone_busy' {
  switch (error instanceof Error ? error.name : '') {
    case 'NotAllowedError':
    case 'SecurityError':
      return 'microphone_refused';
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'microphone_missing';
    default:
      return 'microphone_busy';
  }
}

async function openTone(): Promise<OpenSource> {
  if (typeof AudioContext === 'undefined') {
    throw new CallpulseError('browser_unsupported');
  }
  const context = new AudioContext();
  const close = (): void => void context.close().catch(() => undefined);
  try {
    const oscillator = new OscillatorNode(context, { frequency: TONE_HZ });
    const gain = new GainNode(context, { gain: TONE_GAIN });
    const destination = context.createMediaStreamDestination();
    oscillator.connect(gain).connect(destination);
    oscillator.start();
    await Promise.race([context.resume(), new Promise((resolve) => setTimeout(resolve, TONE_START_MS))]);
    const [track] = destination.stream.getAudioTracks();
    if (context.state !== 'running' || track === undefined) {
      // A suspended context produces no audio: the call would never connect.
      throw new CallpulseError('sound_blocked');
    }
    return {
      track,
      stop: () => {
        track.stop();
        close();
      },
    };
  } catch (error) {
    close();
    throw toCallpulseError(error, 'sound_blocked');
  }
}
