import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import type { Clock, Random } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import { entryPrefix, writeRest } from './entry.ts';
import { CHAIN_START, type ChainHead, type Group, MAX_GROUP, MAX_GROUP_BYTES, makeGroup } from './group.ts';
import type { EntryFields, EntryKind } from './kinds.ts';
import { Placing, type WriterIdentity, type WriterStore } from './placing.ts';

/**
 * Appends entries of one process, durably, many at a time. While one group is on
 * its way to the database the next one gathers, so that callers share the cost
 * of a commit and a lone caller waits for one commit only.
 *
 * Four states:
 *  - open: groups go out one after another, never two at once, so that the chain
 *    has no holes and no forks.
 *  - settling (inside a group's commit): an answer is missing. The same bytes are
 *    sent again. A group's place (writer, first counter) can be taken once only,
 *    so that a repeat cannot double it; the place taken by these very bytes means
 *    that an earlier attempt arrived. Callers wait, at most `patienceMs`.
 *  - refusing: patience ended or the database said no. Waiting and new callers get
 *    AUDIT_UNAVAILABLE. Behind them the place is fought over: a `writer.recovered`
 *    entry for the same counter is inserted until either it or the late group is
 *    read back from there. Whichever it is, the chain goes on from it.
 *  - closed.
 *
 * What it will not do: guess, drop an entry that was acknowledged, or write an
 * entry whose fields do not fit the table.
 */

/** Names a durable entry: which writer, and its how-manieth. */
export interface EntryRef {
  readonly writer: string;
  readonly counter: number;
}

export interface AuditWriter {
  /** This process's name in the log; changes only when the writer has to be retired. */
  readonly writer: string;
  /**
   * Resolves once the entry is durable.
   * @throws StrongroomError `AUDIT_UNAVAILABLE` (not durable, or not known to be: do
   *   not act on it), `OVERLOADED` (too many wait; nothing was written),
   *   `SHUTTING_DOWN`, `INTERNAL` (the fields do not fit the kind; nothing was written).
   */
  append<K extends EntryKind>(kind: K, fields: EntryFields<K>): Promise<EntryRef>;
  /**
   * Joins the next group, and makes one of its own when no caller's comes within
   * 20 ms. Never throws: fields that do not fit are reported as a problem, and what
   * does not fit into the bounded queue while the database is away is counted in
   * the log as `audit.shed`.
   */
  note<K extends EntryKind>(kind: K, fields: EntryFields<K>): void;
  /** Writes what waits and `writer.stopped`, for at most `patienceMs`. Later calls are refused. Never throws. */
  close(): Promise<void>;
}

export interface AuditWriterOptions {
  readonly store: WriterStore;
  readonly deploymentId: string;
  /** `gateway`, `webhooks`, `admin`, `worker`, or the name of a command. */
  readonly role: string;
  readonly random: Random;
  readonly clock: Clock;
  /** Longest time a caller waits for a group in doubt. Default 5000 ms. */
  readonly patienceMs?: number;
  /** Most entries that wait. Default 4096; more are refused. */
  readonly maxWaiting?: number;
  /** Told of every refusal of the database, once per outage, and of recovery. For the log. Must not throw. */
  readonly onProblem?: (problem: AuditProblem) => void;
  /** Waits between attempts; tests hand in their own. */
  readonly pause?: (ms: number) => Promise<void>;
}

export type AuditProblem =
  | { readonly event: 'refusing' | 'retired' | 'bad_note' | 'stop_failed'; readonly error: unknown }
  | { readonly event: 'recovered'; readonly landed: boolean };

interface Waiting {
  readonly rest: string;
  /** Null for a note. */
  readonly caller: { resolve(ref: EntryRef): void; reject(error: unknown): void } | null;
}

interface Outgoing {
  readonly group: Group & { readonly end: ChainHead };
  readonly members: readonly Waiting[];
}

/** How long a note waits for a caller's entry to travel with. */
const NOTE_WAITS_MS = 20;
const DEFAULT_PATIENCE_MS = 5_000;
const DEFAULT_MAX_WAITING = 4_096;

/**
 * Registers a new writer and makes its `writer.started` durable.
 * @throws StrongroomError `AUDIT_UNAVAILABLE` when that fails; start again later.
 */
export async function startAuditWriter(options: AuditWriterOptions): Promise<AuditWriter> {
  const writer = new GroupWriter(options);
  await writer.start();
  return writer;
}

class GroupWriter implements AuditWriter {
  readonly #options: AuditWriterOptions;
  readonly #placing: Placing;
  readonly #maxWaiting: number;
  #state: 'open' | 'refusing' | 'closing' | 'closed' = 'open';
  #writer = '';
  #key = 0;
  #prefix = '';
  #head: ChainHead = CHAIN_START;
  #queue: Waiting[] = [];
  #pump: Promise<void> | null = null;
  #noteTimer: NodeJS.Timeout | undefined;
  #shedCallers = 0;
  #shedNotes = 0;

  constructor(options: AuditWriterOptions) {
    this.#options = options;
    const { store, clock, patienceMs = DEFAULT_PATIENCE_MS, pause = sleep } = options;
    this.#placing = new Placing(store, clock, patienceMs, pause);
    this.#maxWaiting = options.maxWaiting ?? DEFAULT_MAX_WAITING;
  }

  get writer(): string {
    return this.#writer;
  }

  async start(): Promise<void> {
    try {
      await this.#begin('start', null);
    } catch (cause) {
      throw new StrongroomError('AUDIT_UNAVAILABLE', { step: 'start' }, cause);
    }
  }

  append<K extends EntryKind>(kind: K, fields: EntryFields<K>): Promise<EntryRef> {
    if (this.#state !== 'open') return Promise.reject(this.#refusal());
    if (this.#queue.length >= this.#maxWaiting) {
      this.#shedCallers++;
      return Promise.reject(new StrongroomError('OVERLOADED', { waiting: this.#queue.length }));
    }
    return new Promise((resolve, reject) => {
      // A misfit throws here and so rejects this caller alone.
      const rest = writeRest(kind, fields, this.#options.clock.now());
      this.#queue.push({ rest, caller: { resolve, reject } });
      this.#wake();
    });
  }

  note<K extends EntryKind>(kind: K, fields: EntryFields<K>): void {
    let rest: string;
    try {
      rest = writeRest(kind, fields, this.#options.clock.now());
    } catch (error) {
      this.#report({ event: 'bad_note', error });
      return;
    }
    if (this.#state === 'closed' || this.#queue.length >= this.#maxWaiting) {
      this.#shedNotes++;
      return;
    }
    this.#queue.push({ rest, caller: null });
    this.#wakeLater();
  }

  async close(): Promise<void> {
    if (this.#state === 'closing' || this.#state === 'closed') return this.#pump ?? undefined;
    const wasOpen = this.#state === 'open';
    this.#state = 'closing';
    clearTimeout(this.#noteTimer);
    if (wasOpen) {
      while (this.#pump !== null) await this.#pump;
      if (this.#isClosed()) return;
      // Notes that a closing process still makes (outcomes) ride in the same group.
      const rest = writeRest('writer.stopped', { role: this.#options.role }, this.#options.clock.now());
      this.#queue.push({ rest, caller: null });
      await this.#drain();
    }
    this.#state = 'closed';
  }

  #wake(): void {
    clearTimeout(this.#noteTimer);
    this.#noteTimer = undefined;
    if (this.#queue.length === 0 || this.#pump !== null || this.#state !== 'open') return;
    this.#pump = this.#run().finally(() => {
      this.#pump = null;
      this.#wakeLater();
    });
  }

  /** A group of notes alone would make the next caller wait for one commit more: they go along with that one. */
  #wakeLater(): void {
    if (this.#mustGo()) this.#wake();
    else if (this.#queue.length > 0) this.#noteTimer ??= setTimeout(() => this.#wake(), NOTE_WAITS_MS);
  }

  #mustGo(): boolean {
    return this.#queue.length >= MAX_GROUP || this.#queue.some(({ caller }) => caller !== null);
  }

  async #run(): Promise<void> {
    do {
      // One turn of the event loop: whoever else became ready in it joins this group.
      await nextTurn();
      if (!(await this.#commitNext())) return;
    } while (this.#mustGo());
  }

  #isClosed(): boolean {
    return this.#state === 'closed';
  }

  #giveUp(outgoing: Outgoing, failure: unknown): void {
    this.#state = 'closed';
    this.#refuse(outgoing.members, failure);
    this.#refuse(this.#queue, failure);
    this.#queue = [];
    this.#report({ event: 'stop_failed', error: failure });
  }

  /** The last groups of a closing writer: no recovery afterwards, the process is leaving. */
  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      const outgoing = this.#assemble();
      const failure = await this.#placing.settle(this.#key, outgoing.group);
      if (failure !== null) return this.#giveUp(outgoing, failure);
      this.#acknowledge(outgoing);
    }
  }

  async #commitNext(): Promise<boolean> {
    const outgoing = this.#assemble();
    const failure = await this.#placing.settle(this.#key, outgoing.group);
    if (failure === null) {
      this.#acknowledge(outgoing);
      return true;
    }
    if (this.#state === 'closing') {
      this.#giveUp(outgoing, failure);
      return false;
    }
    this.#state = 'refusing';
    this.#report({ event: 'refusing', error: failure });
    this.#refuse(outgoing.members, failure);
    this.#refuse(this.#queue, failure);
    this.#queue = this.#queue.filter(({ caller }) => caller === null);
    await this.#recover(outgoing);
    return true;
  }

  #assemble(): Outgoing {
    if (this.#shedCallers > 0 || this.#shedNotes > 0) {
      const shed = { callers: this.#shedCallers, notes: this.#shedNotes };
      this.#queue.unshift({ rest: writeRest('audit.shed', shed, this.#options.clock.now()), caller: null });
      this.#shedCallers = 0;
      this.#shedNotes = 0;
    }
    let bytes = 0;
    let count = 0;
    while (count < this.#queue.length && count < MAX_GROUP && bytes < MAX_GROUP_BYTES) {
      bytes += (this.#queue[count++] as Waiting).rest.length;
    }
    const members = this.#queue.splice(0, count);
    const rests = members.map(({ rest }) => rest);
    return { group: makeGroup(this.#prefix, this.#head, rests), members };
  }

  /** Durable: the chain moves on and the callers may act. */
  #acknowledge({ group, members }: Outgoing): void {
    this.#head = group.end;
    for (let i = 0; i < members.length; i++) {
      members[i]?.caller?.resolve({ writer: this.#writer, counter: group.firstN + i });
    }
  }

  #refuse(members: readonly Waiting[], cause: unknown): void {
    for (const { caller } of members) {
      if (caller === null) continue;
      this.#shedCallers++;
      caller.reject(new StrongroomError('AUDIT_UNAVAILABLE', {}, cause));
    }
  }

  /**
   * Finds out what stands at the place of the group in doubt, and goes on from
   * there. Ends only with an open writer (or a closing one).
   */
  async #recover(doubtful: Outgoing): Promise<void> {
    const placing = this.#placing;
    let late: Outgoing | null = doubtful;
    let recovery = this.#recoveryGroup(doubtful.group, false);
    for (let attempt = 0; this.#state === 'refusing'; attempt++) {
      await placing.pause(attempt);
      try {
        if ((await placing.place(this.#key, recovery)) === 'ours') {
          this.#head = recovery.end;
          break;
        }
        const stored = await placing.hashesAt(this.#key, recovery.firstN);
        if (late === null || !stored?.equals(late.group.hashes)) {
          await this.#retire();
          break;
        }
        // It was done and the answer lost. Its callers were refused and did nothing;
        // the log says so, and the chain goes on behind it.
        this.#head = late.group.end;
        recovery = this.#recoveryGroup(late.group, true);
        late = null;
      } catch {
        // Still down. Nothing has changed; the next attempt sends the same bytes.
      }
    }
    if (this.#state !== 'refusing') return;
    // Notes of a group that never arrived are written now; nobody was told about them.
    if (late !== null) this.#queue.unshift(...late.members.filter(({ caller }) => caller === null));
    this.#state = 'open';
    this.#report({ event: 'recovered', landed: late === null });
  }

  #recoveryGroup(doubtful: Group, landed: boolean): Group & { readonly end: ChainHead } {
    const fields = { first: doubtful.firstN, entries: doubtful.count, landed };
    return makeGroup(this.#prefix, this.#head, [writeRest('writer.recovered', fields, this.#options.clock.now())]);
  }

  /**
   * Somebody else stands in this writer's place: its chain cannot be trusted any
   * more. A new writer takes over and names the last entry that was acknowledged.
   */
  async #retire(): Promise<void> {
    const last = { writer: this.#writer, n: this.#head.next - 1, hash: this.#head.hash };
    await this.#begin('retired', last);
    this.#report({ event: 'retired', error: new StrongroomError('AUDIT_BROKEN', last) });
  }

  async #begin(reason: 'start' | 'retired', last: WriterIdentity['previous']): Promise<void> {
    const { random, deploymentId, role, clock } = this.#options;
    const writer = random.uuid();
    const prefix = entryPrefix(deploymentId, writer);
    const { key, previous } = await this.#placing.register(writer, deploymentId, role);
    const seen = last ?? previous;
    const rest = writeRest(
      'writer.started',
      { role, reason, previous: seen?.writer, previous_n: seen?.n, previous_hash: seen?.hash },
      clock.now(),
    );
    const group = makeGroup(prefix, CHAIN_START, [rest]);
    const failure = await this.#placing.settle(key, group);
    if (failure !== null) throw failure;
    this.#writer = writer;
    this.#key = key;
    this.#prefix = prefix;
    this.#head = group.end;
  }

  #refusal(): StrongroomError {
    if (this.#state !== 'refusing') return new StrongroomError('SHUTTING_DOWN');
    this.#shedCallers++;
    return new StrongroomError('AUDIT_UNAVAILABLE');
  }

  #report(problem: AuditProblem): void {
    this.#options.onProblem?.(problem);
  }
}
