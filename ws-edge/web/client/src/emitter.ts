/** Typed events. A listener that throws is reported and stops nobody else. */

/** What an event passes to its listeners, by name. */
export type EventMap = Record<string, readonly unknown[]>;

/** Stops the listening that it was returned for. */
export type Unsubscribe = () => void;

/** The side that listens. */
export interface Listenable<Events extends EventMap> {
  /** Listens until the returned function is called. */
  on<Name extends keyof Events>(name: Name, listener: (...args: Events[Name]) => void): Unsubscribe;
  /** Listens to the next one only. */
  once<Name extends keyof Events>(name: Name, listener: (...args: Events[Name]) => void): Unsubscribe;
}

type Heard = (args: readonly unknown[]) => void;

export class Emitter<Events extends EventMap> implements Listenable<Events> {
  readonly #listeners = new Map<keyof Events, Set<Heard>>();

  on<Name extends keyof Events>(name: Name, listener: (...args: Events[Name]) => void): Unsubscribe {
    const listeners = this.#listeners.get(name) ?? new Set<Heard>();
    this.#listeners.set(name, listeners);
    // A function of its own, so that the same listener given twice is heard twice and taken away once.
    const heard: Heard = (args) => listener(...(args as Events[Name]));
    listeners.add(heard);
    return () => {
      listeners.delete(heard);
    };
  }

  once<Name extends keyof Events>(name: Name, listener: (...args: Events[Name]) => void): Unsubscribe {
    const unsubscribe = this.on(name, (...args) => {
      unsubscribe();
      listener(...args);
    });
    return unsubscribe;
  }

  emit<Name extends keyof Events>(name: Name, ...args: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      try {
        listener(args);
      } catch (error) {
        reportError(error);
      }
    }
  }

  /** Whether anybody listens. */
  has(name: keyof Events): boolean {
    return (this.#listeners.get(name)?.size ?? 0) > 0;
  }
}

/** As an error that nobody caught: in the console, and at `window.onerror`. */
function reportError(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
