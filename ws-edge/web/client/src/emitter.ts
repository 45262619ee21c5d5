/** Typed events. An error of one listener is reported, and the other listeners still run. */

/** Arguments of the listeners, by event name. */
export type EventMap = Record<string, readonly unknown[]>;

/** Removes the listener. */
export type Unsubscribe = () => void;

/** The listening end. */
export interface Listenable<Events extends EventMap> {
  /** Adds a listener; the returned function removes it. */
  on<Name extends keyof Events>(name: Name, listener: (...args: Events[Name]) => void): Unsubscribe;
  /** Adds a listener for the next event only. */
  once<Name extends keyof Events>(name: Name, listener: (...args: Events[Name]) => void): Unsubscribe;
}

type Listener = (args: readonly unknown[]) => void;

export class Emitter<Events extends EventMap> implements Listenable<Events> {
  readonly #listeners = new Map<keyof Events, Set<Listener>>();

  on<Name extends keyof Events>(name: Name, listener: (...args: Events[Name]) => void): Unsubscribe {
    const listeners = this.#listeners.get(name) ?? new Set<Listener>();
    this.#listeners.set(name, listeners);
    // A new function, so that a listener added twice is called twice and removed once.
    const wrapped: Listener = (args) => listener(...(args as Events[Name]));
    listeners.add(wrapped);
    return () => {
      listeners.delete(wrapped);
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

  /** Whether an event has listeners. */
  has(name: keyof Events): boolean {
    return (this.#listeners.get(name)?.size ?? 0) > 0;
  }
}

/** As an uncaught error: in the console, and at `window.onerror`. */
function reportError(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}
