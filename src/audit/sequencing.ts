import { parseEntry } from './entry.ts';
import { type GroupOfWriter, readGroup } from './group.ts';

/**
 * What one step of the sequencer decides: which entries come next in the log, in
 * which order, and what is wrong with them. Pure; sequencer.ts carries it out.
 *
 * Broken entries are sequenced as they are, because they are evidence; only a row
 * that does not hold together is passed over. Either way it is named.
 */

export interface PendingGroup extends GroupOfWriter {
  readonly key: number;
}

/** Where the sequencer stands with one writer. */
export interface WriterPosition {
  readonly key: number;
  readonly writer: string;
  /** Counter of the first entry without an index. */
  readonly next: number;
  /** Hash of the entry before, as stored; null when it was archived away. */
  readonly hash: string | null;
  /** `first_n` of the last group that was looked at; -1 before the first. */
  readonly lastGroup: number;
  /** The writer said that it stopped: nothing more is expected. */
  readonly stopped: boolean;
}

/** `count` entries of a writer, from its `firstN` on, stand in the log from `firstIndex` on. */
export interface Run {
  readonly firstIndex: number;
  readonly key: number;
  readonly firstN: number;
  readonly count: number;
}

export interface Gap {
  readonly writer: string;
  /**
   * `missing`: entries from n on are gone. `altered`: entry n is not what was
   * written, or does not follow from the one before. `malformed`: the row with
   * the entries from n on does not hold together and was passed over. `doubled`:
   * a second row claims the place of entries from n on.
   */
  readonly reason: 'missing' | 'altered' | 'malformed' | 'doubled';
  readonly n: number;
  readonly entries: number;
}

export interface Plan {
  readonly runs: readonly Run[];
  /** 32 bytes each, in the order of the log. */
  readonly leaves: readonly Buffer[];
  readonly positions: readonly WriterPosition[];
  readonly gaps: readonly Gap[];
}

/**
 * @param size - How many entries the log has.
 * @param positions - Of every writer that `groups` speak of.
 * @param groups - By writer key, then by first counter.
 * @param cutShort - Writers that have more groups than were fetched.
 */
export function planStep(
  size: number,
  positions: ReadonlyMap<number, WriterPosition>,
  groups: readonly PendingGroup[],
  cutShort: ReadonlySet<number> = new Set(),
): Plan {
  const runs: Run[] = [];
  const leaves: Buffer[] = [];
  const gaps: Gap[] = [];
  const moved: WriterPosition[] = [];
  const cutWriters = new Set([...cutShort].map((key) => positions.get(key)?.writer));
  let at = 0;
  while (at < groups.length) {
    const key = (groups[at] as PendingGroup).key;
    let end = at;
    while (groups[end]?.key === key) end++;
    const position = positions.get(key);
    const mine = groups.slice(at, end);
    at = end;
    if (position === undefined) throw new RangeError('groups of a writer without a position');
    if (waitsForPredecessor(position, mine, cutWriters)) continue;
    moved.push(followWriter(position, mine, size, { runs, leaves, gaps }));
  }
  return { runs, leaves, positions: moved, gaps };
}

/**
 * A writer that names its predecessor's last entry must come behind it in the
 * log, or every reader in between would miss an entry. It waits while the
 * predecessor has groups that this step did not fetch.
 */
function waitsForPredecessor(
  position: WriterPosition,
  groups: readonly PendingGroup[],
  cutWriters: ReadonlySet<string | undefined>,
): boolean {
  if (position.next > 0 || cutWriters.size === 0) return false;
  const first = groups[0] === undefined ? null : readGroup(groups[0]);
  const entry = first?.[0] === undefined ? null : parseEntry(first[0].text);
  const previous = entry?.fields.previous;
  return typeof previous === 'string' && cutWriters.has(previous);
}

interface Output {
  readonly runs: Run[];
  readonly leaves: Buffer[];
  readonly gaps: Gap[];
}

function followWriter(
  start: WriterPosition,
  groups: readonly PendingGroup[],
  size: number,
  out: Output,
): WriterPosition {
  const { key, writer } = start;
  let { next, hash, lastGroup, stopped } = start;
  for (const group of groups) {
    const { firstN, count } = group;
    lastGroup = firstN;
    if (firstN < next) {
      out.gaps.push({ writer, reason: 'doubled', n: firstN, entries: count });
      continue;
    }
    const entries = readGroup(group);
    if (entries === null) {
      out.gaps.push({ writer, reason: 'malformed', n: firstN, entries: count });
      [next, hash] = [firstN + count, null];
      continue;
    }
    if (firstN > next) {
      out.gaps.push({ writer, reason: 'missing', n: next, entries: firstN - next });
    } else if (hash !== null && hash !== group.prev.toString('hex')) {
      // The stored hashes of the group before were verified when it was read.
      out.gaps.push({ writer, reason: 'altered', n: firstN, entries: 1 });
    }
    const run = out.runs.at(-1);
    if (run !== undefined && run.key === key && run.firstN + run.count === firstN) {
      out.runs[out.runs.length - 1] = { ...run, count: run.count + count };
    } else {
      out.runs.push({ firstIndex: size + out.leaves.length, key, firstN, count });
    }
    for (const entry of entries) {
      if (entry.leaf !== entry.stored) out.gaps.push({ writer, reason: 'altered', n: entry.n, entries: 1 });
      out.leaves.push(Buffer.from(entry.leaf, 'hex'));
    }
    next = firstN + count;
    hash = entries.at(-1)?.stored ?? null;
    stopped = isStop(group.entries);
  }
  return { key, writer, next, hash, lastGroup, stopped };
}

/** Whether the last line of a group says that its writer stopped. */
export function isStop(entries: string): boolean {
  return entries.slice(entries.lastIndexOf('\n') + 1).includes('"kind":"writer.stopped"');
}
