import type { TestDatabase } from './database.ts';

/** Makes the audit log's table refuse, as a full disk or a failover would. */
export interface AuditFault {
  /**
   * Refuses every group from now on, or those that hold one of `kinds`.
   *
   * @param sqlstate - What the database says, e.g. 53100 for a full disk.
   */
  refuse(sqlstate: string, ...kinds: readonly string[]): Promise<void>;
  /** Takes entries again. */
  mend(): Promise<void>;
}

export async function auditFault(
  t: { after(stop: () => Promise<void>): void },
  database: TestDatabase,
): Promise<AuditFault> {
  const owner = await database.open('owner', { poolSize: 1 });
  t.after(() => owner.close());
  const mend = async () => {
    await owner.sql.query('drop trigger if exists refuse_for_the_test on audit_groups');
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
      await owner.sql.query(`create or replace function refuse_for_the_test() returns trigger
        language plpgsql set search_path = strongroom, pg_temp as $$
        begin
          if ${concerns} then raise exception 'refused for the test' using errcode = '${sqlstate}'; end if;
          return new;
        end $$`);
      await owner.sql.query('grant execute on function refuse_for_the_test() to public');
      await mend();
      await owner.sql.query(`create trigger refuse_for_the_test before insert on audit_groups
        for each row execute function refuse_for_the_test()`);
    },
  };
}
