/** The peer's audio, played and measured, and the ringtone. */

/** The level of a full bar: speech rarely exceeds a third of full scale. */
const FULL_LEVEL = 0.3;

let shared: AudioContext | null = null;

/** One context for the page: browsers allow few. None before a user gesture: browsers would suspend it. */
function context(): AudioContext | null {
  if (typeof AudioContext === 'undefined' || !navigator.userActivation.hasBeenActive) {
    return null;
  }
  shared ??= new AudioContext();
  if (shared.state === 'suspended') {
    void shared.resume().catch(() => undefined);
  }
  return shared;
}

/** Plays the peer's audio and measures its level. */
export class RemoteAudio {
  readonly #audio = new Audio();
  #analyser: AnalyserNode | null = null;
  #input: MediaStreamAudioSourceNode | null = null;
  #samples = new Float32Array(0);

  constructor() {
    this.#audio.autoplay = true;
  }

  /** Whether it is audible; it is measured in any case. */
  set isListening(isListening: boolean) {
    this.#audio.muted = !isListening;
  }

  start(stream: MediaStream): void {
    this.stop();
    this.#audio.srcObject = stream;
    this.play();
  }

  /** Plays and measures; call it again after a user gesture, which some browsers require. */
  play(): void {
    const stream = this.#audio.srcObject;
    if (!(stream instanceof MediaStream)) {
      return;
    }
    void this.#audio.play().catch(() => undefined);
    const audio = context();
    if (audio !== null && this.#analyser === null) {
      this.#analyser = new AnalyserNode(audio, { fftSize: 1024 });
      this.#samples = new Float32Array(this.#analyser.fftSize);
      this.#input = audio.createMediaStreamSource(stream);
      this.#input.connect(this.#analyser);
    }
  }

  /** The current level, 0 to 1. */
  level(): number {
    if (this.#analyser === null) {
      return 0;
    }
    this.#analyser.getFloatTimeDomainData(this.#samples);
    const square = this.#samples.reduce((sum, sample) => sum + sample * sample, 0) / this.#samples.length;
    return Math.min(1, Math.sqrt(square) / FULL_LEVEL);
  }

  stop(): void {
    this.#input?.disconnect();
    this.#input = null;
    this.#analyser = null;
    this.#audio.srcObject = null;
  }
}

/** Two quiet notes, repeated. */
const NOTES_HZ = [660, 880];
const NOTE_S = 0.18;
const EVERY_MS = 2_000;
const VOLUME = 0.08;

export class Ringtone {
  #timer: ReturnType<typeof setInterval> | undefined;

  /** Rings until set to false. */
  set isRinging(isRinging: boolean) {
    if (isRinging && this.#timer === undefined) {
      chime();
      this.#timer = setInterval(chime, EVERY_MS);
    } else if (!isRinging) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
  }
}

function chime(): void {
  const audio = context();
  if (audio?.state !== 'running') {
    return;
  }
  NOTES_HZ.forEach((frequency, index) => {
    const start = audio.currentTime + index * NOTE_S;
    const note = new OscillatorNode(audio, { frequency, type: 'sine' });
    const gain = new GainNode(audio, { gain: 0 });
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(VOLUME, start + 0.02);
    gain.gain.exponentialRampToValueAtTime(0.001, start + NOTE_S * 2);
    note.connect(gain).connect(audio.destination);
    note.start(start);
    note.stop(start + NOTE_S * 2);
  });
}
