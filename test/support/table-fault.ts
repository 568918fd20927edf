import type { TestDatabase } from './database.ts';

/** Makes a table refuse rows, as a full disk or a failover would. */
export interface TableFault {
  /**
   * Refuses every row from now on; of the audit log those groups that hold one of `kinds`.
   *
   * @param sqlstate - What the database says, e.g. 53100 for a full disk.
   */
  refuse(sqlstate: string, ...kinds: readonly string[]): Promise<void>;
  /** Takes entries again. */
  mend(): Promise<void>;
}

export async function tableFault(
  t: { after(stop: () => Promise<void>): void },
  database: TestDatabase,
  table: 'audit_groups' | 'secrets' | 'operations' | 'exchanges' | 'subjects',
): Promise<TableFault> {
  const owner = await database.open('owner', { poolSize: 1 });
  t.after(() => owner.close());
  const mend = async () => {
    await owner.sql.query(`drop trigger if exists refuse_for_the_test on ${table}`);
  };
  return {
    mend,
    async refuse(sqlstate, ...kinds) {
      if (!/^[0-9A-Z]{5}$/.test(sqlstate) || kinds.some((kind) => !/^[a-z_.]+$/.test(kind)))
        throw new TypeError('not a state or kind');
      const concerns =
        kinds.length === 0
          ? 'true'
          : kinds.map((kind) => `position('"kind":"${kind}"' in new.entries) > 0`).join(' or ');
      await owner.sql.query(`create or replace function refuse_${table}() returns trigger
        language plpgsql set search_path = strongroom, pg_temp as $$
        begin
          if ${concerns} then raise exception 'refused for the test' using errcode = '${sqlstate}'; end if;
          return new;
        end $$`);
      await owner.sql.query(`grant execute on function refuse_${table}() to public`);
      await mend();
      await owner.sql.query(`create trigger refuse_for_the_test before insert or update on ${table}
        for each row execute function refuse_${table}()`);
    },
  };
}
