import type { Clock } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import type { Group } from './group.ts';

/**
 * Putting a group at its place in the database, whatever happens to the answers.
 * A place (writer, first counter) is taken once and for ever, so an attempt may
 * be repeated with the same bytes: it either takes the place or finds who has.
 */

export interface WriterIdentity {
  /** The database's short name of the writer. */
  readonly key: number;
  /** The last entry of the previous writer in this role, as the database has it now. */
  readonly previous: { readonly writer: string; readonly n: number; readonly hash: string } | null;
}

/** What a writer needs of the database. Every method may fail before or after it took effect. */
export interface WriterStore {
  /** Idempotent for the same writer id. */
  register(writer: string, deployment: string, role: string): Promise<WriterIdentity>;
  /** Durable when it resolves. False: the place (key, firstN) is taken, and nothing was written. */
  insert(key: number, group: Group): Promise<boolean>;
  /** The hashes at a place; null when it is free. */
  hashesAt(key: number, firstN: number): Promise<Buffer | null>;
}

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1_000;

export class Placing {
  readonly #store: WriterStore;
  readonly #clock: Clock;
  readonly #patienceMs: number;
  readonly #sleep: (ms: number) => Promise<void>;

  constructor(store: WriterStore, clock: Clock, patienceMs: number, sleep: (ms: number) => Promise<void>) {
    this.#store = store;
    this.#clock = clock;
    this.#patienceMs = patienceMs;
    this.#sleep = sleep;
  }

  /** Registering is idempotent, so that a lost answer is answered by asking again. */
  register(writer: string, deployment: string, role: string): Promise<WriterIdentity> {
    return this.#insist(() => this.#store.register(writer, deployment, role));
  }

  /** Null once the group is durable; else why it is not known to be. Takes at most the patience. */
  async settle(key: number, group: Group): Promise<unknown> {
    try {
      const stands = await this.#insist(() => this.#placed(key, group));
      return stands === 'ours' ? null : new StrongroomError('AUDIT_BROKEN', { n: group.firstN });
    } catch (error) {
      return error;
    }
  }

  /** One attempt. Rejects when nothing was learned. */
  place(key: number, group: Group): Promise<'ours' | 'foreign'> {
    return this.#within(this.#deadline(), this.#placed(key, group));
  }

  hashesAt(key: number, firstN: number): Promise<Buffer | null> {
    return this.#within(this.#deadline(), this.#store.hashesAt(key, firstN));
  }

  /** Waits before attempt number `attempt` (from 0), longer each time, at most a second. */
  pause(attempt: number): Promise<void> {
    return this.#sleep(pauseMs(attempt));
  }

  async #placed(key: number, group: Group): Promise<'ours' | 'foreign'> {
    if (await this.#store.insert(key, group)) return 'ours';
    const stored = await this.#store.hashesAt(key, group.firstN);
    return stored?.equals(group.hashes) ? 'ours' : 'foreign';
  }

  async #insist<T>(work: () => Promise<T>): Promise<T> {
    const deadline = this.#deadline();
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#within(deadline, work());
      } catch (error) {
        if (isFinal(error) || this.#clock.monotonic() + pauseMs(attempt) >= deadline) throw error;
      }
      await this.pause(attempt);
    }
  }

  #deadline(): number {
    return this.#clock.monotonic() + this.#patienceMs;
  }

  /** Gives up waiting at the deadline. What was asked may still happen; the place decides then. */
  async #within<T>(deadline: number, work: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      const ms = Math.max(1, deadline - this.#clock.monotonic());
      timer = setTimeout(() => reject(new StrongroomError('DATABASE_UNAVAILABLE', { reason: 'no answer' })), ms);
    });
    try {
      return await Promise.race([work, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

function pauseMs(attempt: number): number {
  return Math.min(FIRST_PAUSE_MS * 2 ** Math.min(attempt, 10), LONGEST_PAUSE_MS);
}

/**
 * Whether trying again at once is pointless: the server answered, and about the
 * statement, a permission, a read-only state (25) or a full disk (531) or memory.
 * Everything else (connections, restarts, forgotten statements) may pass.
 */
const FINAL = /^(?:22|23|25|42|531|532|534)/;

function isFinal(error: unknown): boolean {
  if (!(error instanceof StrongroomError)) return false;
  const { sqlstate } = error.facts;
  return typeof sqlstate === 'string' && FINAL.test(sqlstate);
}
