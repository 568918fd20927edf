import { type ParsedEntry, parseEntry } from '../audit/entry.ts';
import { readGroup } from '../audit/group.ts';
import type { EntryKind } from '../audit/kinds.ts';
import type { Sql } from './sql.ts';

/**
 * Entries of the audit log by kind, with those that have no index yet: for
 * comparing what the log says with what the tables hold. For the roles that may
 * read the log.
 */

/** Groups of one page: a few kilobytes each, 256 KB at most. */
const PAGE_GROUPS = 200;

/**
 * By writer and in the order of each; constant memory. An entry that is not what
 * its stored hash says is left out: it says nothing that can be relied on, and
 * whoever verifies the log names it.
 */
export async function* entriesOfKinds(sql: Sql, kinds: readonly EntryKind[]): AsyncIterable<ParsedEntry> {
  const wanted = new Set<string>(kinds);
  const patterns = kinds.map((kind) => `%"kind":"${kind}"%`);
  let [writer, firstN] = [0, -1];
  for (;;) {
    const { rows } = await sql.query<Row>({
      name: 'audit entries by kind',
      text: `select g.writer as key, w.writer, w.deployment, g.first_n as "firstN", g.count, g.prev, g.hashes, g.entries
               from audit_groups g join audit_writers w on w.id = g.writer
              where (g.writer, g.first_n) > ($1, $2) and g.entries like any ($3)
              order by g.writer, g.first_n limit ${PAGE_GROUPS}`,
      values: [writer, firstN, patterns],
    });
    for (const { key: _key, ...group } of rows) {
      for (const { text, leaf, stored } of readGroup(group) ?? []) {
        const entry = leaf === stored ? parseEntry(text) : null;
        if (entry !== null && wanted.has(entry.kind)) yield entry;
      }
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE_GROUPS) return;
    [writer, firstN] = [last.key, last.firstN];
  }
}

/** Index of the first entry that the database still has; those before were archived and dropped. */
export async function firstKeptEntry(sql: Sql): Promise<number> {
  const { rows } = await sql.query<{ first: number }>(
    'select coalesce(max(first_index), 0) as first from audit_archives',
  );
  return rows[0]?.first ?? 0;
}

interface Row {
  readonly key: number;
  readonly writer: string;
  readonly deployment: string;
  readonly firstN: number;
  readonly count: number;
  readonly prev: Buffer;
  readonly hashes: Buffer;
  readonly entries: string;
}
