import type { Clock } from '../base/clock.ts';

/** Calls of one application that are counted already and have not come yet. */
export interface Ahead {
  readonly applicationId: string;
  /** The quota that they were counted under. */
  readonly quota: number;
  /** Hours since 1970, as the database said when it counted them. */
  readonly hour: number;
  left: number;
  readonly until: number;
}

/** How long calls that did not come stay counted, in milliseconds. */
export const AHEAD_MS = 1_000;
/** Fewer calls than this at once are counted one by one: a quiet application's count is exact at any time. */
const BUSY = 4;
/** Calls counted ahead for each that came, and at most. */
const FACTOR = 16;
const MOST = 256;

/** How many calls to count ahead when so many of one application came at once. */
export function aheadFor(calls: number): number {
  return calls < BUSY ? 0 : Math.min(MOST, FACTOR * calls);
}

/**
 * What this replica holds of calls that the database has counted ahead. Memory
 * only: what a crash leaves here stays counted, so that a quota is never passed.
 */
export class CallsAhead {
  readonly #clock: Clock;
  readonly #giveBack: (ahead: Ahead) => void;
  readonly #held = new Map<string, Ahead>();
  #timer: NodeJS.Timeout | undefined;

  /** @param giveBack - Told of what is left when its time is over. */
  constructor(clock: Clock, giveBack: (ahead: Ahead) => void) {
    this.#clock = clock;
    this.#giveBack = giveBack;
  }

  /** Takes one call, if one was counted ahead under this quota and in this hour. */
  take(applicationId: string, quota: number, hour: number | null): boolean {
    const held = this.#held.get(applicationId);
    if (held === undefined || held.left === 0) return false;
    if (held.quota !== quota || held.hour !== hour || this.#clock.monotonic() >= held.until) return false;
    held.left--;
    return true;
  }

  /** @param since - When the database was asked, by the monotonic clock. */
  add(applicationId: string, quota: number, hour: number, calls: number, since: number): void {
    const before = this.#held.get(applicationId);
    if (before !== undefined && before.left > 0) this.#giveBack(before);
    this.#held.set(applicationId, { applicationId, quota, hour, left: calls, until: since + AHEAD_MS });
    this.#timer ??= setTimeout(() => this.#sweep(), AHEAD_MS).unref();
  }

  /** Gives everything back. */
  close(): void {
    clearTimeout(this.#timer);
    for (const held of this.#held.values()) if (held.left > 0) this.#giveBack(held);
    this.#held.clear();
  }

  #sweep(): void {
    this.#timer = undefined;
    for (const [id, held] of this.#held) {
      if (this.#clock.monotonic() < held.until) continue;
      this.#held.delete(id);
      if (held.left > 0) this.#giveBack(held);
    }
    if (this.#held.size > 0) this.#timer = setTimeout(() => this.#sweep(), AHEAD_MS / 2).unref();
  }
}
