import { checkpointLine, entryLine, headerLine, keyLine, runLine } from './export-lines.ts';
import { type GroupOfWriter, readGroup } from './group.ts';
import { Frontier } from './tree.ts';

/**
 * The log as text that can be checked without us: JSON lines, ASCII, written in
 * one way only, so that the same log gives the same bytes. docs/formats/audit.md
 * describes every line; verify.ts reads them.
 *
 * What the database holds is written as it is, whole or broken: the verifier
 * names what is wrong, the export hides nothing.
 */

export const PARTITION_ENTRIES = 100_000;

export interface LogBounds {
  /** Entries under the newest checkpoint: what gets exported. */
  readonly size: number;
  readonly origin: string;
  /** Where the database's entries begin; those before were archived. */
  readonly start: LogStart;
  readonly keys: readonly { readonly vkey: string; readonly firstSize: number }[];
}

/** Entries before `first` are not there; the frontier stands for them. */
export interface LogStart {
  readonly first: number;
  readonly frontier: readonly Buffer[];
}

export interface LogRun {
  readonly firstIndex: number;
  readonly firstN: number;
  readonly count: number;
  readonly writer: string;
  /** By first counter. More or fewer than the run says when the database was tampered with. */
  readonly groups: readonly GroupOfWriter[];
}

/** The log in the database, read page by page. */
export interface LogSource {
  /** Null when no checkpoint was signed yet. */
  bounds(): Promise<LogBounds | null>;
  runs(from: number, to: number): AsyncIterable<LogRun>;
  checkpoints(from: number, to: number): AsyncIterable<{ readonly size: number; readonly note: string }>;
}

export interface ExportOptions {
  /** A partition ends with the first checkpoint at or past each multiple of this. Default 100,000. */
  readonly partitionEntries?: number;
  /** Goes on where an earlier export's last partition began. */
  readonly start?: LogStart;
}

/** Lines without their newlines. An empty log gives none. */
export async function* exportLines(source: LogSource, options: ExportOptions = {}): AsyncIterable<string> {
  const bounds = await source.bounds();
  if (bounds === null) return;
  const { size, origin, keys } = bounds;
  const { partitionEntries = PARTITION_ENTRIES } = options;
  const start = options.start !== undefined && options.start.first >= bounds.start.first ? options.start : bounds.start;
  if (start.first >= size) return;

  const tree = new Frontier(start.first, start.frontier);
  const partition = (at: number) => Math.floor(at / partitionEntries);
  let told = keys.filter(({ firstSize }) => firstSize <= start.first).length;
  const header = (at: LogStart) => headerLine({ origin, ...at, vkeys: keys.slice(0, told).map(({ vkey }) => vkey) });
  yield header(start);

  const checkpoints = source.checkpoints(start.first, size)[Symbol.asyncIterator]();
  let checkpoint = await checkpoints.next();
  let first = start.first;
  for await (const run of source.runs(start.first, size)) {
    yield runLine(run);
    for (const group of run.groups) {
      for (const entry of readGroup(group) ?? []) {
        yield entryLine(run.firstIndex + (entry.n - run.firstN), entry.text);
        tree.append(Buffer.from(entry.leaf, 'hex'));
      }
    }
    const end = run.firstIndex + run.count;
    while (checkpoint.done !== true && checkpoint.value.size <= end) {
      for (; told < keys.length && (keys[told]?.firstSize ?? 0) < end; told++) yield keyLine(keys[told]?.vkey ?? '');
      yield checkpointLine(checkpoint.value.note);
      const covered = checkpoint.value.size;
      checkpoint = await checkpoints.next();
      if (covered === end && covered < size && partition(covered) > partition(first)) {
        // In a tampered log the tree does not fit the index any more; the verifier has named why by then.
        if (tree.size === covered) {
          first = covered;
          yield header({ first, frontier: tree.hashes });
        }
      }
    }
  }
}
