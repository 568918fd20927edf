import type { WriterStore } from '../audit/placing.ts';
import type { SequencerStore } from '../audit/sequencer.ts';
import type { SequencerLease } from '../audit/sequencer-loop.ts';
import { isStop, type PendingGroup, type WriterPosition } from '../audit/sequencing.ts';
import type { Database, Sql } from './sql.ts';

/**
 * The audit log's tables: what writers and the sequencer need of them. Reading the
 * log is in audit-log.ts.
 */

/** For every role that writes. Uses functions to read back, because writers may only insert. */
export function auditWriterStore(sql: Sql): WriterStore {
  return {
    async register(writer, deployment, role) {
      const { rows } = await sql.query<RegisteredRow>(
        `select id, previous, previous_n as n, encode(previous_hash, 'hex') as hash
           from audit_register($1, $2, $3)`,
        [writer, deployment, role],
      );
      const { id, previous, n, hash } = rows[0] as RegisteredRow;
      return {
        key: id,
        previous: previous === null ? null : { writer: previous, n: n as number, hash: hash as string },
      };
    },

    async insert(key, { firstN, count, prev, hashes, entries }) {
      // No conflict target: naming one needs the right to read. A taken place is no error.
      const { rowCount } = await sql.query({
        name: 'audit insert',
        text: `insert into audit_groups (first_n, writer, count, prev, hashes, entries)
               values ($1, $2, $3, $4, $5, $6) on conflict do nothing`,
        values: [firstN, key, count, prev, hashes, entries],
      });
      return rowCount === 1;
    },

    async hashesAt(key, firstN) {
      const { rows } = await sql.query<{ hashes: Buffer | null }>('select audit_hashes_at($1, $2) as hashes', [
        key,
        firstN,
      ]);
      return rows[0]?.hashes ?? null;
    },
  };
}

interface RegisteredRow {
  readonly id: number;
  readonly previous: string | null;
  readonly n: number | null;
  readonly hash: string | null;
}

const SEQUENCER_LOCK = 'audit sequencer';

/** Null while another process sequences. The store works over the connection that holds the lock. */
export async function leaseSequencer(database: Database): Promise<SequencerLease | null> {
  const lock = await database.tryLock(SEQUENCER_LOCK);
  if (lock === null) return null;
  return { store: sequencerStore(lock.sql), lost: lock.lost, release: () => lock.release() };
}

export function sequencerStore(sql: Sql): SequencerStore {
  return {
    async load() {
      const { rows } = await sql.query<LoadedRow>(
        `select t.size, t.frontier, c.size as "checkpointSize", c.root, c.note,
                array(select vkey from audit_keys order by first_size, vkey) as vkeys
           from audit_tree t
           left join lateral (select * from audit_checkpoints order by size desc limit 1) c on true`,
      );
      const { size, frontier, checkpointSize, root, note, vkeys } = rows[0] as LoadedRow;
      const checkpoint = checkpointSize === null ? null : { size: checkpointSize, root, note };
      return { size, frontier, checkpoint, vkeys };
    },

    async addKey(vkey, firstSize) {
      await sql.query('insert into audit_keys (vkey, first_size) values ($1, $2) on conflict do nothing', [
        vkey,
        firstSize,
      ]);
    },

    async positions(after, known) {
      const { rows } = await sql.query<PositionRow>({
        name: 'audit positions',
        text: `select w.id as key, w.writer, coalesce(r.next, 0) as next,
                      case when g.first_n + g.count = r.next
                           then encode(substr(g.hashes, 32 * g.count - 31, 32), 'hex') end as hash,
                      coalesce(g.first_n, r.next - 1, -1) as "lastGroup", coalesce(g.entries, '') as entries
                 from audit_writers w
                 left join lateral (
                        select first_n + count as next from audit_runs
                         where writer = w.id order by first_n desc limit 1) r on true
                 left join lateral (
                        select * from audit_groups
                         where writer = w.id and first_n < r.next order by first_n desc limit 1) g on true
                where w.id > $1 and w.id <> all ($2::integer[])
                order by w.id`,
        values: [after, known],
      });
      return rows.map(
        ({ entries, ...row }): WriterPosition => ({ ...row, stopped: row.hash !== null && isStop(entries) }),
      );
    },

    async pending(positions, perWriter) {
      const { rows } = await sql.query<PendingGroup>({
        name: 'audit pending',
        text: `select w.id as key, w.writer, w.deployment, g.first_n as "firstN", g.count, g.prev, g.hashes, g.entries
                 from unnest($1::integer[], $2::bigint[]) as p (key, last_group)
                 join audit_writers w on w.id = p.key
                cross join lateral (
                        select * from audit_groups
                         where writer = p.key and first_n > p.last_group order by first_n limit $3) g
                order by w.id, g.first_n`,
        values: [positions.map(({ key }) => key), positions.map(({ lastGroup }) => lastGroup), perWriter],
      });
      return rows;
    },

    async commit({ from, size, frontier, runs, checkpoint }) {
      // One statement, so that it is one round trip and all or nothing. Moving the
      // tree only from where it was read is what keeps two sequencers from forking.
      const { rows } = await sql.query<{ moved: boolean }>({
        name: 'audit sequence',
        text: `with moved as (
                 update audit_tree set size = $2, frontier = $3 where one and size = $1 returning size
               ), runs as (
                 insert into audit_runs (first_index, writer, first_n, count)
                 select r.* from moved, unnest($4::bigint[], $5::integer[], $6::bigint[], $7::integer[]) r
               ), signed as (
                 insert into audit_checkpoints (size, root, note) select moved.size, $8, $9 from moved
               )
               select exists (select from moved) as moved`,
        values: [
          from,
          size,
          frontier,
          runs.map(({ firstIndex }) => firstIndex),
          runs.map(({ key }) => key),
          runs.map(({ firstN }) => firstN),
          runs.map(({ count }) => count),
          checkpoint.root,
          checkpoint.note,
        ],
      });
      return rows[0]?.moved === true;
    },
  };
}

interface LoadedRow {
  readonly size: number;
  readonly frontier: Buffer;
  readonly checkpointSize: number | null;
  readonly root: Buffer;
  readonly note: string;
  readonly vkeys: string[];
}

interface PositionRow extends Omit<WriterPosition, 'stopped'> {
  readonly entries: string;
}
