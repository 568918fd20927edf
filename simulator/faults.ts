/**
 * Faults that the control API plants: a call is not done, or done with its
 * answer lost, cut, late, replaced or held until somebody lets it go. For every
 * remote step there are two kinds of failure, and a caller must survive both.
 */
export const POINTS = ['before_read', 'before_commit', 'after_commit', 'mid_answer'] as const;
export type Point = (typeof POINTS)[number];

export const FAULT_KINDS = ['not_done', 'answer_lost', 'answer_cut', 'delay', 'status', 'body', 'hold'] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface FaultRequest {
  /** A path, or `*` for every call. */
  readonly endpoint: string;
  readonly kind: FaultKind;
  /** How many calls it strikes. Default 1. */
  readonly times?: number;
  /** How many matching calls pass before the first is struck. Default 0. */
  readonly after?: number;
  /** Only calls with the access token of this item. */
  readonly item_id?: string;
  /** answer_cut, mid_answer: bytes of the body that still go out; negative counts from the end. */
  readonly bytes?: number;
  /** delay: milliseconds of real time. */
  readonly ms?: number;
  /** status, body: the HTTP status. */
  readonly status?: number;
  /** status: Plaid's error code; the body is made from it. */
  readonly error_code?: string;
  /** status, body: sent instead of the true answer. A string goes out as it is, with placeholders filled in. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** Compresses the planted body, whatever the caller accepts. */
  readonly gzip?: boolean;
  /** Sends the body so many times over, for endless answers. */
  readonly repeat?: number;
  /** Sends the body in pieces of so many bytes. */
  readonly chunk_bytes?: number;
  /** When: default `before_commit`; for `mid_answer` see `bytes`. */
  readonly point?: Point;
  /** not_done, answer_lost, answer_cut: end the connection with RST instead of FIN. */
  readonly reset?: boolean;
}

export interface Fault extends FaultRequest {
  readonly id: string;
  left: number;
  skip: number;
}

export type Release = 'continue' | 'destroy';

export class Faults {
  readonly #faults: Fault[] = [];
  readonly #held: { id: string; go: (how: Release) => void }[] = [];
  #count = 0;

  plant(request: FaultRequest): string {
    const id = `fault-${++this.#count}`;
    this.#faults.push({ ...request, id, left: request.times ?? 1, skip: request.after ?? 0 });
    return id;
  }

  /** Removes one fault, or all. What is held already stays held. */
  clear(id?: string): number {
    const before = this.#faults.length;
    for (let at = before - 1; at >= 0; at--)
      if (id === undefined || this.#faults[at]?.id === id) this.#faults.splice(at, 1);
    return before - this.#faults.length;
  }

  list(): (Fault & { held: number })[] {
    return this.#faults.map((fault) => ({ ...fault, held: this.#held.filter((held) => held.id === fault.id).length }));
  }

  get none(): boolean {
    return this.#faults.length === 0;
  }

  /**
   * The first fault that strikes this call, and counts it. Those of
   * `before_read` are asked for apart, since the body is not known then.
   */
  take(path: string, early: boolean, itemId: () => string | null): Fault | null {
    for (const fault of this.#faults) {
      if ((fault.point === 'before_read') !== early) continue;
      if (fault.endpoint !== '*' && fault.endpoint !== path) continue;
      if (fault.item_id !== undefined && fault.item_id !== itemId()) continue;
      if (fault.skip > 0) {
        fault.skip--;
        continue;
      }
      if (--fault.left <= 0) this.#faults.splice(this.#faults.indexOf(fault), 1);
      return fault;
    }
    return null;
  }

  /** Waits as a `delay` or `hold` says; anything else does not wait. */
  wait(fault: Fault): Promise<Release> {
    if (fault.kind === 'delay')
      return new Promise((resolve) => setTimeout(() => resolve('continue'), fault.ms ?? 1000).unref());
    if (fault.kind !== 'hold') return Promise.resolve('continue');
    return new Promise((resolve) => this.#held.push({ id: fault.id, go: resolve }));
  }

  /** Lets held calls go. Returns how many there were. */
  release(id: string | null, how: Release): number {
    const going = this.#held.filter((held) => id === null || held.id === id);
    for (const held of going) {
      this.#held.splice(this.#held.indexOf(held), 1);
      held.go(how);
    }
    return going.length;
  }

  heldCalls(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const held of this.#held) counts[held.id] = (counts[held.id] ?? 0) + 1;
    return counts;
  }
}

/** What placeholders can name. `item` maps an item's id to its live access token. */
export interface PlaceholderSources {
  readonly request: unknown;
  readonly answer: unknown;
  readonly item: Readonly<Record<string, unknown>>;
}

/**
 * Fills `{{request.access_token}}`, `{{answer.item_id}}`, `{{item.ITEM_ID}}` or a
 * whole `{{answer}}` in a planted body or header, so that a test can have a
 * secret echoed that it does not know itself. `|base64`, `|hex`, `|unicode`
 * (JSON escapes) and `|reverse` disguise it.
 */
export function fillPlaceholders(text: string, sources: PlaceholderSources): string {
  return text.replace(
    /\{\{(request|answer|item)((?:\.\w+)*)((?:\|\w+)*)\}\}/g,
    (_, source: keyof PlaceholderSources, path: string, filters: string) => {
      let value: unknown = sources[source];
      for (const part of path.split('.').slice(1)) {
        value = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[part] : undefined;
      }
      return filters.split('|').reduce(disguise, typeof value === 'string' ? value : JSON.stringify(value ?? null));
    },
  );
}

function disguise(text: string, filter: string): string {
  switch (filter) {
    case 'base64':
      return Buffer.from(text).toString('base64');
    case 'hex':
      return Buffer.from(text).toString('hex');
    case 'unicode':
      return [...text].map((character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`).join('');
    case 'reverse':
      return [...text].reverse().join('');
    default:
      return text;
  }
}
