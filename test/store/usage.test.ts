import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';
import { codeOf } from '../../src/base/errors.ts';
import type { Database, Sql, Statement } from '../../src/store/sql.ts';
import { pruneUsage, type UsageRequest, UsageReservations, usageOf } from '../../src/store/usage.ts';
import { someApplication } from '../support/applications.ts';
import { testDatabase } from '../support/database.ts';

let database: Awaited<ReturnType<typeof testDatabase>>;
let gateway: Database;
let admin: Database;
let worker: Database;

before(async () => {
  database = await testDatabase();
  gateway = await database.open('gateway');
  admin = await database.open('admin');
  worker = await database.open('worker');
});
after(() => database.close());

const application = () => someApplication(admin.sql);

const PLENTY = { calls: 1_000_000, items: 1_000_000, removals: 1_000_000, rotations: 1_000_000 };

function call(applicationId: string, change: Partial<UsageRequest> = {}): UsageRequest {
  return { applicationId, records: [], removals: 0, rotations: 0, limits: PLENTY, ...change };
}

const valuesOf = (statement: string | Statement, values?: readonly unknown[]): readonly unknown[] =>
  values ?? (typeof statement === 'string' ? [] : (statement.values ?? []));

/** Counts the statements that go out. */
function counting(sql: Sql): Sql & { sent: number } {
  const counted = {
    sent: 0,
    query: <R extends object>(statement: string | Statement, values?: readonly unknown[]) => {
      counted.sent++;
      return sql.query<R>(statement, values);
    },
  };
  return counted;
}

test('of calls racing on several replicas, exactly the quota gets through', async () => {
  const id = await application();
  const replicas = [1, 2, 3].map(() => new UsageReservations(gateway.sql, { group: 7 }));
  const limits = { ...PLENTY, calls: 100 };
  const answers = await Promise.all(
    replicas.flatMap((replica) => Array.from({ length: 60 }, () => replica.reserve(call(id, { limits })))),
  );
  assert.equal(answers.filter((exceeded) => exceeded === null).length, 100);
  assert.equal(answers.filter((exceeded) => exceeded === 'calls').length, 80);
  assert.equal((await usageOf(admin.sql, id)).calls, 100);
});

test('the 1,001st distinct item in an hour is refused, whoever asks for it, and known ones go on', async () => {
  const id = await application();
  const replicas = [new UsageReservations(gateway.sql), new UsageReservations(gateway.sql)];
  const limits = { ...PLENTY, items: 1_000 };
  const records = Array.from({ length: 1_200 }, () => randomUUID());
  const answers = await Promise.all(
    records.map((record, at) => replicas[at % 2]!.reserve(call(id, { records: [record], limits }))),
  );
  assert.equal(answers.filter((exceeded) => exceeded === null).length, 1_000);
  assert.equal((await usageOf(admin.sql, id)).items, 1_000);

  const known = records[answers.indexOf(null)] as string;
  const refused = records[answers.indexOf('items')] as string;
  for (const replica of replicas) {
    assert.equal(await replica.reserve(call(id, { records: [known], limits })), null);
    assert.equal(await replica.reserve(call(id, { records: [refused], limits })), 'items');
  }
  assert.equal((await usageOf(admin.sql, id)).items, 1_000);
});

test('the same item used on two replicas at once counts once', async () => {
  const id = await application();
  const record = randomUUID();
  const replicas = [new UsageReservations(gateway.sql), new UsageReservations(gateway.sql)];
  const limits = { ...PLENTY, items: 1 };
  const answers = await Promise.all(
    replicas.flatMap((replica) =>
      Array.from({ length: 20 }, () => replica.reserve(call(id, { records: [record, record], limits }))),
    ),
  );
  assert.ok(answers.every((exceeded) => exceeded === null));
  assert.equal((await usageOf(admin.sql, id)).items, 1);
});

test('removals and rotations have budgets of their own, and a refused call counts nothing', async () => {
  const id = await application();
  const usage = new UsageReservations(gateway.sql);
  const limits = { ...PLENTY, removals: 3, rotations: 1 };
  const removal = call(id, { removals: 2, limits, records: [randomUUID()] });
  assert.deepEqual(await Promise.all([usage.reserve(removal), usage.reserve(call(id, { removals: 1, limits }))]), [
    null,
    null,
  ]);
  assert.equal(await usage.reserve(call(id, { removals: 1, limits, records: [randomUUID()] })), 'removals');
  assert.equal(await usage.reserve(call(id, { rotations: 1, limits })), null);
  assert.equal(await usage.reserve(call(id, { rotations: 1, limits })), 'rotations');
  assert.equal(await usage.reserve(call(id, { limits })), null);
  assert.deepEqual(await usageOf(admin.sql, id), { calls: 4, removals: 3, rotations: 1, items: 1 });
});

test('a budget of zero allows none', async () => {
  const id = await application();
  const usage = new UsageReservations(gateway.sql);
  assert.equal(await usage.reserve(call(id, { limits: { ...PLENTY, calls: 0 } })), 'calls');
  assert.equal(await usage.reserve(call(id, { records: [randomUUID()], limits: { ...PLENTY, items: 0 } })), 'items');
  assert.equal(await usage.reserve(call(id, { removals: 1, limits: { ...PLENTY, removals: 0 } })), 'removals');
});

test('applications in one group do not spend from each other', async () => {
  const ids = await Promise.all(Array.from({ length: 8 }, application));
  const replicas = [new UsageReservations(gateway.sql), new UsageReservations(gateway.sql)];
  const limits = { ...PLENTY, calls: 5 };
  // Opposite orders on the two replicas: locks taken in the order of arrival would deadlock.
  const answers = await Promise.all(
    replicas.flatMap((replica, at) =>
      Array.from({ length: 5 }, () => (at === 0 ? ids : [...ids].reverse())).flatMap((order) =>
        order.map(async (id) => ({ id, exceeded: await replica.reserve(call(id, { limits })) })),
      ),
    ),
  );
  for (const id of ids) {
    assert.equal(answers.filter((answer) => answer.id === id && answer.exceeded === null).length, 5);
  }
});

test('concurrent calls share round trips, and a counted item is not sent again', async () => {
  const id = await application();
  const sql = counting(gateway.sql);
  const usage = new UsageReservations(sql);
  await usage.reserve(call(id)); // learns the hour
  sql.sent = 0;
  await Promise.all(Array.from({ length: 100 }, () => usage.reserve(call(id, { records: [randomUUID()] }))));
  assert.ok(sql.sent <= 3, `${sql.sent} round trips`);

  const record = randomUUID();
  await usage.reserve(call(id, { records: [record] }));
  let sent: readonly unknown[] = [];
  const spied: Sql = {
    query: (statement, values) => {
      sent = valuesOf(statement, values);
      return gateway.sql.query(statement, values);
    },
  };
  const again = new UsageReservations(spied);
  await again.reserve(call(id, { records: [record] }));
  const RECORDS = 10; // the eleventh parameter of reserve_usage
  assert.deepEqual(sent[RECORDS], [record]);
  await again.reserve(call(id, { records: [record] }));
  assert.deepEqual(sent[RECORDS], []);
});

test('in a new hour what was counted before counts anew', async () => {
  const id = await application();
  const record = randomUUID();
  // A process that believes in an hour that is over: its statement is refused as a
  // whole, and it asks again with every record.
  const asked: unknown[] = [];
  let shift = -1;
  const late: Sql = {
    query: async (statement, values) => {
      asked.push(valuesOf(statement, values)[0]);
      const answer = await gateway.sql.query(statement, values);
      const row = answer.rows[0] as { hour: number; exceeded: unknown };
      if (shift !== 0) {
        row.hour += shift;
        shift = 0;
      }
      return answer as never;
    },
  };
  const usage = new UsageReservations(late);
  assert.equal(await usage.reserve(call(id, { records: [record] })), null);
  assert.equal(asked.length, 3); // unknown hour, wrong hour, right hour
  assert.equal(asked[1], (asked[2] as number) - 1);
  assert.deepEqual(await usageOf(admin.sql, id), { calls: 1, removals: 0, rotations: 0, items: 1 });
});

for (const fault of ['not_done', 'answer_lost'] as const) {
  test(`when the database fails (${fault}) every call of the group is refused and the next ones go on`, async () => {
    const id = await application();
    let failing = false;
    const sql: Sql = {
      query: async (statement, values) => {
        if (!failing) return gateway.sql.query(statement, values);
        failing = false;
        if (fault === 'answer_lost') await gateway.sql.query(statement, values);
        throw new Error(`injected: ${fault}`);
      },
    };
    const usage = new UsageReservations(sql);
    const limits = { ...PLENTY, calls: 5 };
    assert.equal(await usage.reserve(call(id, { limits })), null);
    failing = true;
    const outcomes = await Promise.allSettled([
      usage.reserve(call(id, { limits })),
      usage.reserve(call(id, { limits })),
    ]);
    assert.equal(outcomes[0]?.status, 'rejected');
    // Never more than the quota, at most fewer: what may have been counted stays counted.
    let through = outcomes.filter((outcome) => outcome.status === 'fulfilled' && outcome.value === null).length;
    for (let i = 0; i < 10; i++) if ((await usage.reserve(call(id, { limits }))) === null) through++;
    // Both stood in the group whose answer was lost.
    assert.equal(1 + through, fault === 'answer_lost' ? 3 : 5);
  });
}

test('calls beyond the queue are told so, and nothing is counted for them', async () => {
  const id = await application();
  const usage = new UsageReservations(gateway.sql, { waiting: 10, group: 5 });
  const outcomes = await Promise.allSettled(Array.from({ length: 40 }, () => usage.reserve(call(id))));
  const refused = outcomes.filter((outcome) => outcome.status === 'rejected');
  assert.ok(refused.length > 0);
  for (const outcome of refused) assert.equal(codeOf(outcome.reason), 'OVERLOADED');
  await usage.close(); // gives back what was counted ahead
  assert.equal((await usageOf(admin.sql, id)).calls, 40 - refused.length);
});

test('the reservation does not wait for the disk and leaves the connection durable', async () => {
  const seen = await gateway.transaction(async (sql) => {
    await sql.query(`select reserve_usage(null, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')`);
    return (await sql.query<{ synchronous_commit: string }>('show synchronous_commit')).rows[0];
  });
  assert.equal(seen?.synchronous_commit, 'off');
  for (let i = 0; i < 10; i++) {
    const { rows } = await gateway.sql.query<{ synchronous_commit: string }>('show synchronous_commit');
    assert.equal(rows[0]?.synchronous_commit, 'on');
  }
});

test('the gateway can neither read nor write the counters but through the function', async () => {
  for (const statement of [
    'select * from usage_days',
    'update usage_days set calls = 0',
    'delete from usage_hour_items',
    'delete from usage_days',
    'select prune_usage()',
  ]) {
    await assert.rejects(gateway.sql.query(statement), (error) => codeOf(error) === 'DATABASE_ROLE_UNFIT', statement);
  }
  await assert.rejects(admin.sql.query('update usage_days set calls = 0'));
  await pruneUsage(worker.sql);
});
