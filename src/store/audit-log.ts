import { setTimeout as sleep } from 'node:timers/promises';
import { type ExportOptions, exportLines, type LogRun, type LogSource } from '../audit/export.ts';
import { entryLine } from '../audit/export-lines.ts';
import { type GroupOfWriter, readGroup } from '../audit/group.ts';
import type { StoredCheckpoint } from '../audit/sequencer.ts';
import { HASH_BYTES } from '../audit/tree.ts';
import type { Sql } from './sql.ts';

/**
 * Reading the audit log: for export, for following it, and for the heads that
 * leave the database. For the roles that may select: worker, admin, auditor.
 */

/** Entries that one page of an export holds, at most, and one run more. */
const PAGE_ENTRIES = 8_192;
const PAGE_RUNS = 512;
const PAGE_CHECKPOINTS = 500;

/**
 * The whole log up to its newest checkpoint, as lines without newlines. Constant
 * memory; the log may grow meanwhile, the export ends where it began.
 * @throws StrongroomError `DATABASE_UNAVAILABLE`.
 */
export function exportAudit(sql: Sql, options: ExportOptions = {}): AsyncIterable<string> {
  return exportLines(auditLogSource(sql), options);
}

export interface FollowOptions {
  /** Index of the first entry to show. Default: what comes from now on. Negative: so many before the end. */
  readonly from?: number;
  readonly signal: AbortSignal;
  /** Default 500 ms. */
  readonly pollMs?: number;
}

/** Entry lines as they get their index, until the signal. */
export async function* followAudit(sql: Sql, { from, signal, pollMs = 500 }: FollowOptions): AsyncIterable<string> {
  const source = auditLogSource(sql);
  const start = (await newestCheckpoint(sql))?.size ?? 0;
  let next = from === undefined ? start : from < 0 ? Math.max(0, start + from) : from;
  while (!signal.aborted) {
    const size = (await newestCheckpoint(sql))?.size ?? 0;
    if (size > next) {
      for await (const line of entriesBetween(source, next, size)) yield line;
      next = size;
    } else {
      await sleep(pollMs, undefined, { signal }).catch(() => {});
    }
  }
}

async function* entriesBetween(source: LogSource, from: number, to: number): AsyncIterable<string> {
  for await (const run of source.runs(from, to)) {
    for (const group of run.groups) {
      for (const { n, text } of readGroup(group) ?? []) {
        const index = run.firstIndex + (n - run.firstN);
        if (index >= from) yield entryLine(index, text);
      }
    }
  }
}

export async function newestCheckpoint(sql: Sql): Promise<StoredCheckpoint | null> {
  const { rows } = await sql.query<StoredCheckpoint>({
    name: 'audit newest checkpoint',
    text: 'select size, root, note from audit_checkpoints order by size desc limit 1',
  });
  return rows[0] ?? null;
}

/** For compareWithExportedHead. Every role that serves may ask this. */
export function storedHeads(sql: Sql) {
  return {
    async newestSize(): Promise<number> {
      return (await newestCheckpoint(sql))?.size ?? 0;
    },
    async rootAt(size: number): Promise<Buffer | null> {
      const { rows } = await sql.query<{ root: Buffer }>('select root from audit_checkpoints where size = $1', [size]);
      return rows[0]?.root ?? null;
    },
  };
}

export async function recordHead(sql: Sql, size: number, destination: string): Promise<void> {
  await sql.query('insert into audit_heads (size, destination) values ($1, $2)', [size, destination]);
}

export interface HeadRecord {
  readonly size: number;
  readonly destination: string;
  readonly exportedAt: Date;
}

/** The newest head that each destination has: the last external anchors. */
export async function newestHeads(sql: Sql): Promise<HeadRecord[]> {
  const { rows } = await sql.query<HeadRecord>(
    `select distinct on (destination) size, destination, exported_at as "exportedAt"
       from audit_heads order by destination, id desc`,
  );
  return rows;
}

export function auditLogSource(sql: Sql): LogSource {
  return {
    async bounds() {
      const { rows } = await sql.query<BoundsRow>(
        `select c.size, split_part(c.note, E'\\n', 1) as origin,
                coalesce(a.first_index, 0) as first, coalesce(a.frontier, '') as frontier
           from (select size, note from audit_checkpoints order by size desc limit 1) c
           left join (select * from audit_archives order by first_index desc limit 1) a on true`,
      );
      if (rows[0] === undefined) return null;
      const { size, origin, first, frontier } = rows[0];
      const { rows: keys } = await sql.query<{ vkey: string; firstSize: number }>(
        'select vkey, first_size as "firstSize" from audit_keys order by first_size, vkey',
      );
      return { size, origin, start: { first, frontier: hashesOf(frontier) }, keys };
    },

    async *runs(from, to) {
      let next = from;
      while (next < to) {
        const page = await runPage(sql, next, to);
        const last = page.at(-1);
        if (last === undefined) return;
        yield* page;
        next = last.firstIndex + last.count;
      }
    },

    async *checkpoints(from, to) {
      let after = from;
      for (;;) {
        const { rows } = await sql.query<{ size: number; note: string }>(
          `select size, note from audit_checkpoints where size > $1 and size <= $2 order by size limit ${PAGE_CHECKPOINTS}`,
          [after, to],
        );
        yield* rows;
        const last = rows.at(-1);
        if (last === undefined || rows.length < PAGE_CHECKPOINTS) return;
        after = last.size;
      }
    },
  };
}

/** Runs that end behind `from`, as many as give about a page of entries, at least one. */
async function runPage(sql: Sql, from: number, to: number): Promise<LogRun[]> {
  const { rows } = await sql.query<RunRow>(
    `select r.first_index as "firstIndex", r.first_n as "firstN", r.count, w.writer, w.deployment,
            g.first_n as "groupN", g.count as "groupCount", g.prev, g.hashes, g.entries
       from (select *, sum(count) over (order by first_index) as total
               from (select * from audit_runs
                      where first_index >= coalesce((select max(first_index) from audit_runs where first_index <= $1), $1)
                        and first_index + count > $1 and first_index < $2
                      order by first_index limit ${PAGE_RUNS}) next_runs) r
       join audit_writers w on w.id = r.writer
       left join audit_groups g
              on g.writer = r.writer and g.first_n >= r.first_n and g.first_n < r.first_n + r.count
      where r.total - r.count < ${PAGE_ENTRIES}
      order by r.first_index, g.first_n`,
    [from, to],
  );
  const runs: (LogRun & { groups: GroupOfWriter[] })[] = [];
  for (const row of rows) {
    const { firstIndex, firstN, count, writer, deployment, groupN, groupCount, prev, hashes, entries } = row;
    if (runs.at(-1)?.firstIndex !== firstIndex) runs.push({ firstIndex, firstN, count, writer, groups: [] });
    if (groupN === null) continue;
    runs.at(-1)?.groups.push({ writer, deployment, firstN: groupN, count: groupCount, prev, hashes, entries });
  }
  return runs;
}

function hashesOf(bytes: Buffer): Buffer[] {
  const hashes: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += HASH_BYTES) hashes.push(bytes.subarray(at, at + HASH_BYTES));
  return hashes;
}

interface BoundsRow {
  readonly size: number;
  readonly origin: string;
  readonly first: number;
  readonly frontier: Buffer;
}

interface RunRow {
  readonly firstIndex: number;
  readonly firstN: number;
  readonly count: number;
  readonly writer: string;
  readonly deployment: string;
  /** Null when no group of the run is there. */
  readonly groupN: number | null;
  readonly groupCount: number;
  readonly prev: Buffer;
  readonly hashes: Buffer;
  readonly entries: string;
}
