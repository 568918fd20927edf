import { open } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../base/clock.ts';
import { type Checkpoint, openCheckpoint, type Verifier } from './checkpoint.ts';
import type { StoredCheckpoint } from './sequencer.ts';

/**
 * Heads that leave the database. A log proves that nothing was changed inside it,
 * but only a head that was kept elsewhere shows that its end was cut, or that the
 * whole database was put back to an older state. Evidence counts from there.
 *
 * A destination that fails is tried again, loudly, and never stops anything.
 */

export interface HeadDestination {
  /** For logs and for audit_heads. Holds no credentials. */
  readonly name: string;
  /** Resolves once the head is safe there. */
  send(checkpoint: StoredCheckpoint, at: number, signal: AbortSignal): Promise<void>;
}

/**
 * Appends one line for each head and syncs it to disk. Best on another machine's
 * file system, or where the process may append only.
 */
export function fileDestination(path: string): HeadDestination {
  return {
    name: `file:${path}`,
    async send({ note }, at) {
      const file = await open(path, 'a+', 0o640);
      try {
        const { size } = await file.stat();
        const last = Buffer.alloc(1, '\n');
        if (size > 0) await file.read(last, 0, 1, size - 1);
        // A crash in the middle of a line leaves its beginning; the next head gets a line of its own.
        const start = last.toString() === '\n' ? '' : '\n';
        await file.appendFile(start + formatHeadLine(note, at));
        await file.datasync();
      } finally {
        await file.close();
      }
    },
  };
}

const HTTP_PATIENCE_MS = 5_000;

/** Posts the signed note as text/plain. Any 2xx answer means that it was taken; redirects are refused. */
export function httpDestination(url: string): HeadDestination {
  return {
    name: new URL(url).origin,
    async send({ note }, _at, signal) {
      const answer = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'text/plain; charset=utf-8' },
        body: note,
        redirect: 'error',
        signal: AbortSignal.any([signal, AbortSignal.timeout(HTTP_PATIENCE_MS)]),
      });
      await answer.body?.cancel();
      if (!answer.ok) throw new Error(`the head was answered with status ${answer.status}`);
    },
  };
}

/** One line of a heads file, with its newline. `at` is when it was exported, not part of what is signed. */
export function formatHeadLine(note: string, at: number): string {
  return `${JSON.stringify({ at: new Date(at).toISOString(), note })}\n`;
}

export interface HeadExportOptions {
  readonly latest: () => Promise<StoredCheckpoint | null>;
  readonly destinations: readonly HeadDestination[];
  /** Writes down that a head left. */
  readonly record: (size: number, destination: string) => Promise<void>;
  readonly clock: Clock;
  /** Time between exports while there is something new. Default and maximum 10,000 ms. */
  readonly intervalMs?: number;
  /** Told of every failed attempt. For the log and metrics. Must not throw. */
  readonly onProblem?: (destination: string, error: unknown) => void;
}

export interface RunningHeadExport {
  /** Tries every destination once, now. Resolves when all have answered or failed. */
  now(): Promise<void>;
  /** One last export, then no more. */
  stop(): Promise<void>;
}

const INTERVAL_MS = 10_000;
const FIRST_RETRY_MS = 1_000;

/** Each destination goes at its own pace, so that one that hangs delays no other. */
export function startHeadExport(options: HeadExportOptions): RunningHeadExport {
  const stopping = new AbortController();
  const intervalMs = Math.min(options.intervalMs ?? INTERVAL_MS, INTERVAL_MS);
  const exporters = options.destinations.map((destination) => new HeadExporter(options, destination));
  const loops = exporters.map(async (exporter) => {
    while (!stopping.signal.aborted) {
      const sent = await exporter.once(stopping.signal);
      const wait = sent ? intervalMs : Math.min(FIRST_RETRY_MS * 2 ** (exporter.failures - 1), intervalMs);
      await sleep(wait, undefined, { signal: stopping.signal }).catch(() => {});
    }
  });
  const now = async () => {
    await Promise.all(exporters.map((exporter) => exporter.once(new AbortController().signal)));
  };
  return {
    now,
    async stop() {
      stopping.abort();
      await Promise.all(loops);
      await now();
    },
  };
}

class HeadExporter {
  readonly #options: HeadExportOptions;
  readonly #destination: HeadDestination;
  #sentSize = 0;
  #recordedSize = 0;
  #running: Promise<boolean> | null = null;
  /** Failed attempts in a row. */
  failures = 0;

  constructor(options: HeadExportOptions, destination: HeadDestination) {
    this.#options = options;
    this.#destination = destination;
  }

  /** False when it failed. One at a time: whoever comes while one runs gets a turn of their own after it. */
  async once(signal: AbortSignal): Promise<boolean> {
    while (this.#running !== null) await this.#running;
    this.#running = this.#attempt(signal).finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #attempt(signal: AbortSignal): Promise<boolean> {
    const { latest, record, clock, onProblem } = this.#options;
    try {
      const checkpoint = await latest();
      if (checkpoint !== null && checkpoint.size > this.#sentSize) {
        await this.#destination.send(checkpoint, clock.now(), signal);
        // It is outside now. A crash before it is written down sends it twice, which is harmless.
        this.#sentSize = checkpoint.size;
      }
      if (this.#recordedSize < this.#sentSize) {
        await record(this.#sentSize, this.#destination.name);
        this.#recordedSize = this.#sentSize;
      }
      this.failures = 0;
      return true;
    } catch (error) {
      this.failures++;
      onProblem?.(this.#destination.name, error);
      return false;
    }
  }
}

export interface ExportedHeads {
  /** Every head whose signature holds, in the order of the file. */
  readonly heads: readonly Checkpoint[];
  /** How many lines are no head signed by a given key. A cut last line is not counted. */
  readonly unreadable: number;
}

/** How much of a heads file is read, from its end: some 3000 heads, eight hours of them at least. */
const HEADS_WINDOW = 1_048_576;

/**
 * Reads heads: the end of a file as {@link fileDestination} writes it, or one
 * signed note. Throws the system's error when the file cannot be read.
 */
export async function readHeads(path: string, verifiers: readonly Verifier[]): Promise<ExportedHeads> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const from = Math.max(0, size - HEADS_WINDOW);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(size - from), 0, size - from, from);
    const text = buffer.toString('utf8', 0, bytesRead);
    return parseHeads(from === 0 ? text : text.slice(text.indexOf('\n') + 1), verifiers);
  } finally {
    await file.close();
  }
}

export function parseHeads(text: string, verifiers: readonly Verifier[]): ExportedHeads {
  if (text !== '' && !text.startsWith('{')) {
    const note = openCheckpoint(text, verifiers);
    return note.ok ? { heads: [note.checkpoint], unreadable: 0 } : { heads: [], unreadable: 1 };
  }
  const lines = text.split('\n');
  lines.pop(); // after the last newline: nothing, or a line that a crash cut
  const heads: Checkpoint[] = [];
  for (const line of lines) {
    const note = openCheckpoint(noteOf(line), verifiers);
    if (note.ok) heads.push(note.checkpoint);
  }
  return { heads, unreadable: lines.length - heads.length };
}

function noteOf(line: string): string {
  try {
    const { note } = JSON.parse(line) as { note?: unknown };
    return typeof note === 'string' ? note : '';
  } catch {
    return '';
  }
}

/** What the database knows, compared with the newest head outside. */
export type HeadComparison =
  /** Nothing was exported yet, or nothing readable stands there: `unreadable` lines were found. */
  | { readonly state: 'no_head'; readonly unreadable: number }
  | { readonly state: 'consistent'; readonly exported: number; readonly stored: number }
  /** The database lacks entries that were once signed: it was put back to an older state. */
  | { readonly state: 'behind'; readonly exported: number; readonly stored: number }
  /** The database signed something else at that size: another history. */
  | { readonly state: 'forked'; readonly exported: number; readonly stored: number };

/**
 * To be asked at start, before anything is written: `behind` and `forked` mean
 * read only, and a person. Neither changes anything.
 *
 * @param stored - The newest checkpoint's size, 0 in an empty log; and the root of the
 *   checkpoint of a size, null when there is none.
 */
export async function compareWithExportedHead(
  { heads, unreadable }: ExportedHeads,
  origin: string,
  stored: { newestSize(): Promise<number>; rootAt(size: number): Promise<Buffer | null> },
): Promise<HeadComparison> {
  let newest: Checkpoint | null = null;
  for (const head of heads) if (head.origin === origin && head.size >= (newest?.size ?? 0)) newest = head;
  if (newest === null) return { state: 'no_head', unreadable };
  const sizes = { exported: newest.size, stored: await stored.newestSize() };
  if (sizes.stored < newest.size) return { state: 'behind', ...sizes };
  const root = await stored.rootAt(newest.size);
  return { state: root?.equals(newest.root) ? 'consistent' : 'forked', ...sizes };
}
