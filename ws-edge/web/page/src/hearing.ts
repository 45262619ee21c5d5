/** What is heard: the peer, played and measured, and the bell. */

/** How loud the loudest bar is: speech rarely comes beyond a third of full scale. */
const FULL_LEVEL = 0.3;

let shared: AudioContext | null = null;

/** One context for all of the page: browsers allow few. None before the page was touched: they would hold it back. */
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

/** Plays what the peer says, and knows how loud it is. */
export class Ear {
  readonly #audio = new Audio();
  #analyser: AnalyserNode | null = null;
  #input: MediaStreamAudioSourceNode | null = null;
  #samples = new Float32Array(0);

  constructor() {
    this.#audio.autoplay = true;
  }

  /** Whether it is played; it is measured in any case. */
  set isListening(isListening: boolean) {
    this.#audio.muted = !isListening;
  }

  hear(stream: MediaStream): void {
    this.stop();
    this.#audio.srcObject = stream;
    this.play();
  }

  /** Plays, and measures; to be called again when the page is touched, which some browsers wait for. */
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

  /** From 0 to 1, of this moment. */
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

/** Two notes, every so often, softly. */
const NOTES_HZ = [660, 880];
const NOTE_S = 0.18;
const EVERY_MS = 2_000;
const VOLUME = 0.08;

export class Bell {
  #timer: ReturnType<typeof setInterval> | undefined;

  /** Rings until told otherwise. */
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
