import { NO_PREVIOUS, type ParsedEntry } from './entry.ts';
import type { Findings, Place } from './findings.ts';

/**
 * Follows every writer's chain through the log: counters without holes, each
 * entry naming the hash of the one before, nothing after the stop, and nothing
 * missing of what a later writer says it had seen.
 *
 * Memory grows with the number of writers, not of entries.
 */

export interface Seen {
  readonly index: number;
  readonly at: Place;
}

interface Chain {
  n: number;
  /** Null when the entry could not be read. */
  hash: string | null;
  last: Seen;
  stopped: boolean;
  /** The last entry names another hash than the one before has: which of the two was altered shows with the next. */
  doubt: { readonly before: Seen; readonly beforeN: number } | null;
}

interface Claim {
  readonly n: number;
  readonly hash: string;
  readonly by: string;
  readonly seen: Seen;
}

export class Chains {
  readonly #findings: Findings;
  readonly #chains = new Map<string, Chain>();
  /** By the writer that they speak of. */
  readonly #claims = new Map<string, Claim[]>();
  /** False when the log begins in the middle: then a chain may begin with any counter. */
  readonly #whole: boolean;

  constructor(findings: Findings, whole: boolean) {
    this.#findings = findings;
    this.#whole = whole;
  }

  get size(): number {
    return this.#chains.size;
  }

  /** Writers whose chain does not end with `writer.stopped`: running, or ended in a crash. */
  get unstopped(): number {
    let count = 0;
    for (const { stopped } of this.#chains.values()) if (!stopped) count++;
    return count;
  }

  follow(entry: ParsedEntry, hash: string, seen: Seen): void {
    const { writer, n } = entry;
    const chain = this.#chains.get(writer);
    if (chain === undefined) this.#begin(entry, hash, seen);
    else this.#continue(chain, entry, hash, seen);
    this.#settleClaims(writer, n, hash, seen);
    if (entry.kind === 'writer.started') this.#claim(entry, seen);
    if (entry.kind === 'audit.gap') {
      const says = `The sequencer recorded: ${entry.fields.reason} entries of writer ${entry.fields.writer} from ${entry.fields.n} on.`;
      const about = { writer: String(entry.fields.writer), n: Number(entry.fields.n) };
      this.#findings.add('recorded', says, { at: seen.at, index: seen.index, ...about });
    }
  }

  /** Entries of a writer that are known to be missing or unreadable, and were already named. */
  pass(writer: string, n: number, seen: Seen): void {
    const chain = this.#chains.get(writer);
    if (chain === undefined) {
      this.#chains.set(writer, { n, hash: null, last: seen, stopped: false, doubt: null });
    } else if (n > chain.n) {
      this.#settleDoubt(chain, writer, null);
      chain.n = n;
      chain.hash = null;
      chain.last = seen;
    }
  }

  end(): void {
    for (const [writer, chain] of this.#chains) this.#settleDoubt(chain, writer, null);
    for (const [writer, claims] of this.#claims) {
      const known = this.#chains.get(writer);
      if (known === undefined && !this.#whole) continue;
      for (const { n, by, seen } of claims) {
        const from = known === undefined ? 0 : known.n + 1;
        const says = `Entries ${from} to ${n} of writer ${writer} are missing: writer ${by} saw them when it started.`;
        this.#findings.add('missing', says, { at: seen.at, index: null, writer, n: from });
      }
    }
  }

  #begin({ writer, n, prev, kind }: ParsedEntry, hash: string, seen: Seen): void {
    const where = { at: seen.at, index: seen.index, writer, n };
    if (this.#whole && n > 0) {
      this.#findings.add('missing', `Entries 0 to ${n - 1} of writer ${writer} are missing.`, { ...where, n: 0 });
    } else if (n === 0 && (prev !== NO_PREVIOUS || kind !== 'writer.started')) {
      this.#findings.add('altered', `Entry ${seen.index} does not begin a chain as first entries do.`, where);
    }
    this.#chains.set(writer, { n, hash, last: seen, stopped: kind === 'writer.stopped', doubt: null });
  }

  #continue(chain: Chain, entry: ParsedEntry, hash: string, seen: Seen): void {
    const { writer, n, prev, kind } = entry;
    const where = { at: seen.at, index: seen.index, writer, n };
    if (n <= chain.n) {
      const same = n === chain.n && hash === chain.hash;
      const says = same
        ? `Entry ${seen.index} repeats entry ${chain.last.index}.`
        : `Entry ${seen.index} has counter ${n} of writer ${writer}, which is past ${chain.n}.`;
      this.#findings.add(same ? 'duplicated' : 'forked', says, where);
      return;
    }
    if (chain.stopped) {
      this.#findings.add('forked', `Entry ${seen.index} comes after its writer ${writer} had stopped.`, where);
    }
    if (n > chain.n + 1) {
      this.#settleDoubt(chain, writer, null);
      const says = `Entries ${chain.n + 1} to ${n - 1} of writer ${writer} are missing before entry ${seen.index}.`;
      this.#findings.add('missing', says, { ...where, n: chain.n + 1 });
    } else {
      const fits = chain.hash === null || prev === chain.hash;
      const wasInDoubt = chain.doubt !== null;
      this.#settleDoubt(chain, writer, fits);
      // When the entry before turned out to be the altered one, this misfit is its doing.
      if (!fits && !wasInDoubt) chain.doubt = { before: chain.last, beforeN: chain.n };
    }
    chain.n = n;
    chain.hash = hash;
    chain.last = seen;
    chain.stopped = kind === 'writer.stopped';
  }

  /**
   * Entry B named another hash than entry A has. When C follows B by hash, B is
   * whole, so A was altered; when C does not follow either, B was. Without a C
   * both are named.
   */
  #settleDoubt(chain: Chain, writer: string, nextFits: boolean | null): void {
    if (chain.doubt === null) return;
    const { before, beforeN } = chain.doubt;
    chain.doubt = null;
    const second = { at: chain.last.at, index: chain.last.index, writer, n: chain.n };
    const first = { at: before.at, index: before.index, writer, n: beforeN };
    if (nextFits === false) {
      this.#findings.add(
        'altered',
        `Entry ${second.index} was altered: neither its neighbour before nor after fits it.`,
        second,
      );
    } else if (nextFits === true) {
      this.#findings.add(
        'altered',
        `Entry ${first.index} was altered: entry ${second.index} names another hash for it.`,
        first,
      );
    } else {
      const says = `Entry ${first.index} or entry ${second.index} was altered: the second names another hash for the first.`;
      this.#findings.add('altered', says, { ...first, last: second.index });
    }
  }

  #claim(entry: ParsedEntry, seen: Seen): void {
    const { previous, previous_n: n, previous_hash: hash } = entry.fields;
    if (typeof previous !== 'string' || typeof n !== 'number' || typeof hash !== 'string') return;
    const chain = this.#chains.get(previous);
    if (chain !== undefined && chain.n > n) return;
    if (chain !== undefined && chain.n === n) {
      if (chain.hash !== null && chain.hash !== hash) this.#contradicted(previous, n, chain.last, entry.writer);
      return;
    }
    const claim = { n, hash, by: entry.writer, seen };
    const claims = this.#claims.get(previous);
    if (claims === undefined) this.#claims.set(previous, [claim]);
    else claims.push(claim);
  }

  #settleClaims(writer: string, n: number, hash: string, seen: Seen): void {
    const claims = this.#claims.get(writer);
    if (claims === undefined) return;
    for (const claim of claims) {
      if (claim.n === n && claim.hash !== hash) this.#contradicted(writer, n, seen, claim.by);
    }
    const open = claims.filter((claim) => claim.n > n);
    if (open.length > 0) this.#claims.set(writer, open);
    else this.#claims.delete(writer);
  }

  #contradicted(writer: string, n: number, seen: Seen, by: string): void {
    const says = `Entry ${seen.index} was altered: writer ${by} saw another one when it started.`;
    this.#findings.add('altered', says, { at: seen.at, index: seen.index, writer, n });
  }
}
