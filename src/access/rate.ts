import type { Clock } from '../base/clock.ts';

/**
 * Limits that a process counts for itself, in bounded memory: calls per second
 * of an application, refused credentials of a source. Both forget at a restart;
 * what must be exact over replicas is counted in PostgreSQL instead.
 */

interface Bucket {
  tokens: number;
  /** Monotonic milliseconds of the last filling. */
  at: number;
}

/**
 * A token bucket per key. Keys that would be full again say nothing, so at
 * `capacity` the longest untouched one is forgotten.
 */
export class TokenBuckets {
  readonly #clock: Clock;
  readonly #capacity: number;
  readonly #buckets = new Map<string, Bucket>();

  /** @param capacity - Keys remembered at once. Default 10,000. */
  constructor(clock: Clock, capacity = 10_000) {
    this.#clock = clock;
    this.#capacity = capacity;
  }

  /** Takes one token, false when there is none. The limits may change from call to call. */
  take(key: string, limit: { readonly perSecond: number; readonly burst: number }): boolean {
    const now = this.#clock.monotonic();
    let bucket = this.#buckets.get(key);
    if (bucket === undefined) {
      bucket = { tokens: limit.burst, at: now };
      this.#makeRoom();
    } else {
      // Taken out and put back below: a Map keeps insertion order, so the first key is the longest untouched.
      this.#buckets.delete(key);
      bucket.tokens = Math.min(limit.burst, bucket.tokens + ((now - bucket.at) / 1000) * limit.perSecond);
      bucket.at = now;
    }
    this.#buckets.set(key, bucket);
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  get size(): number {
    return this.#buckets.size;
  }

  #makeRoom(): void {
    if (this.#buckets.size < this.#capacity) return;
    const oldest = this.#buckets.keys().next();
    if (!oldest.done) this.#buckets.delete(oldest.value);
  }
}

interface Window {
  readonly since: number;
  failures: number;
  /** Failures that no audit entry has told of. */
  untold: number;
  readonly perName: Map<string, number>;
}

/** So many refusals of one source, to be put into one audit entry. */
export interface RefusalCount {
  readonly source: string;
  readonly count: number;
}

export interface RefusalLimits {
  /** Refusals of one source in a window before it is throttled. Default 300. */
  readonly perSource: number;
  /**
   * Refusals for one claimed name (application id) of one source. Default 20. Lower,
   * so that one misconfigured application does not shut out its neighbours behind
   * the same address.
   */
  readonly perName: number;
  /** Milliseconds. Default 60,000. */
  readonly windowMs: number;
  /** Sources remembered at once. Default 10,000. */
  readonly capacity: number;
}

const NAMES_PER_SOURCE = 100;
const NAME_LENGTH = 64;
/** Windows that were forgotten to make room are told of under this name. */
export const OTHER_SOURCES = 'other';

/**
 * Counts refused credentials per source in fixed windows: throttles guessing,
 * and collapses the refusals for the audit log, where the first of a window is
 * told at once and the rest as one count when the window ends. IPv6 sources
 * count per /64, since whoever has one address there has all of them.
 */
export class Refusals {
  readonly #clock: Clock;
  readonly #limits: RefusalLimits;
  readonly #windows = new Map<string, Window>();
  #forgotten = 0;

  constructor(clock: Clock, limits: Partial<RefusalLimits> = {}) {
    this.#clock = clock;
    this.#limits = { perSource: 300, perName: 20, windowMs: 60_000, capacity: 10_000, ...limits };
  }

  /** Whether to refuse without looking at the credentials. */
  throttled(source: string, name: string): boolean {
    const window = this.#windows.get(network(source));
    if (window === undefined || this.#ended(window)) return false;
    return (
      window.failures >= this.#limits.perSource ||
      (window.perName.get(name.slice(0, NAME_LENGTH)) ?? 0) >= this.#limits.perName
    );
  }

  /**
   * Counts one refusal, throttled ones too.
   * @returns Whether it is the first of its window: tell the audit log at once.
   */
  refused(source: string, name: string): boolean {
    const key = network(source);
    let window = this.#windows.get(key);
    // An ended window that was not drained yet keeps its count until it is.
    let carried = 0;
    if (window !== undefined && this.#ended(window)) {
      carried = window.untold;
      this.#windows.delete(key);
      window = undefined;
    }
    const first = window === undefined;
    if (window === undefined) {
      this.#makeRoom();
      window = { since: this.#clock.monotonic(), failures: 0, untold: carried, perName: new Map() };
      this.#windows.set(key, window);
    }
    if (!first) window.untold += 1;
    const short = name.slice(0, NAME_LENGTH);
    const known = window.perName.get(short);
    // What a throttled name goes on sending is held against that name alone: an
    // application that repeats a wrong key for ever must not shut out its neighbours.
    if ((known ?? 0) < this.#limits.perName) window.failures += 1;
    if (known !== undefined || window.perName.size < NAMES_PER_SOURCE) window.perName.set(short, (known ?? 0) + 1);
    return first;
  }

  /** The counts of the windows that have ended, which are forgotten. Call once a window, and with `all` when stopping. */
  drain(all = false): RefusalCount[] {
    const counts: RefusalCount[] = [];
    for (const [source, window] of this.#windows) {
      if (!all && !this.#ended(window)) continue;
      this.#windows.delete(source);
      if (window.untold > 0) counts.push({ source, count: window.untold });
    }
    if (this.#forgotten > 0) counts.push({ source: OTHER_SOURCES, count: this.#forgotten });
    this.#forgotten = 0;
    return counts;
  }

  get size(): number {
    return this.#windows.size;
  }

  #ended(window: Window): boolean {
    return this.#clock.monotonic() - window.since >= this.#limits.windowMs;
  }

  #makeRoom(): void {
    if (this.#windows.size < this.#limits.capacity) return;
    const oldest = this.#windows.entries().next();
    if (oldest.done) return;
    this.#windows.delete(oldest.value[0]);
    this.#forgotten += oldest.value[1].untold;
  }
}

function network(source: string): string {
  if (!source.includes(':')) return source;
  const [head = '', tail] = source.split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups =
    tail === undefined
      ? front
      : [...front, ...new Array<string>(Math.max(0, 8 - front.length - back.length)).fill('0'), ...back];
  return `${groups.slice(0, 4).join(':')}::/64`;
}
