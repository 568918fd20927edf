import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { StrongroomError } from '../../src/base/errors.ts';
import type { Config } from '../../src/config.ts';
import { createKekFile } from '../../src/envelope/kms-file.ts';
import { ROLES, type Role, startStrongroom } from '../../src/main.ts';
import { createLog } from '../../src/redaction/logger.ts';
import type { SecretReference } from '../../src/secrets/reference.ts';
import type { ConnectionOptions } from '../../src/store/connection.ts';
import { ensureDatabase } from '../../src/store/embedded-logins.ts';
import { openSession } from '../../src/store/session.ts';
import { doctorOn, findingsOf } from '../support/doctor.ts';
import { type Kit, refusedWith, strongroom } from '../support/strongroom.ts';

/** Configurations that were pointed at the wrong database, and databases that were put back. */

interface Wrong {
  readonly name: string;
  readonly change: (kit: Kit) => Partial<Config> | Promise<Partial<Config>>;
  readonly code: 'STAMP_MISMATCH' | 'KEK_WRONG';
  /** What the refusal names. */
  readonly says: RegExp;
}

const WRONG: readonly Wrong[] = [
  {
    name: 'another deployment',
    change: ({ config }) => ({ deployment: { ...config.deployment, id: 'other' } }),
    code: 'STAMP_MISMATCH',
    says: /deployment\.id is other, the database has development/,
  },
  {
    name: 'another environment',
    change: ({ config }) => ({ deployment: { ...config.deployment, environment: 'staging' } }),
    code: 'STAMP_MISMATCH',
    says: /deployment\.environment is staging, the database has development/,
  },
  {
    name: 'another Plaid environment',
    change: ({ config }) => ({ plaid: { ...config.plaid, environment: 'production' } }),
    code: 'STAMP_MISMATCH',
    says: /plaid\.environment is production, the database has sandbox/,
  },
  {
    name: 'another Plaid client',
    change: ({ config }) => ({
      plaid: { ...config.plaid, clients: [{ ...client(config), clientId: 'e1'.repeat(12) }] },
    }),
    code: 'STAMP_MISMATCH',
    says: /plaid\.clients is (e1){12}, the database has (d0){12}/,
  },
  {
    name: 'one Plaid client more',
    change: ({ config }) => ({
      plaid: {
        ...config.plaid,
        clients: [client(config), { ...client(config), name: 'more', clientId: 'e1'.repeat(12) }],
      },
    }),
    code: 'STAMP_MISMATCH',
    says: /plaid\.clients is (d0){12}, (e1){12}, the database has (d0){12}/,
  },
  {
    name: 'another KEK',
    async change({ config, home }) {
      const path = join(home, 'other-kek');
      await createKekFile(path);
      return { kms: { ...config.kms, file: { path } } };
    },
    code: 'KEK_WRONG',
    says: /stamped with file:[0-9a-f]{32}; configured is file:[0-9a-f]{32}/,
  },
  {
    name: 'another KEK and another deployment',
    async change({ config, home }) {
      const path = join(home, 'other-kek');
      await createKekFile(path);
      return { deployment: { ...config.deployment, id: 'other' }, kms: { ...config.kms, file: { path } } };
    },
    code: 'STAMP_MISMATCH',
    says: /deployment\.id is other.*kms is file:/,
  },
];

test('a start with a foreign configuration is refused by every role, and leaves no trace; the right one starts', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  const { handle } = await app.link();
  await kit.stop();
  const before = await everything(kit.database.connection('superuser'));

  for (const { name, change, code, says } of WRONG) {
    const config = { ...kit.config, ...(await change(kit)) };
    for (const roles of [ROLES, ['worker'], ['gateway'], ['admin']] as const) {
      const error = await refusal({ kit, config, roles });
      assert.deepEqual([error.code, says.test(error.message)], [code, true], `${name}, ${roles}: ${error.message}`);
    }
  }
  assert.deepEqual(await everything(kit.database.connection('superuser')), before);

  await kit.start();
  assert.equal((await app.post('/accounts/get', { access_token: handle })).status, 200);
  assert.deepEqual(findingsOf(await doctorOn(kit)), []);
});

test('another Plaid secret is refused, named by its client alone, and changes nothing but the log of keys', async (t) => {
  const kit = await strongroom(t);
  await kit.stop();
  const before = await everything(kit.database.connection('superuser'));
  const value = randomBytes(15).toString('hex');
  mkdirSync(join(kit.home, 'other'));
  writeFileSync(join(kit.home, 'other', 'secret.txt'), value, { mode: 0o600 });
  const secret = `file:${join(kit.home, 'other', 'secret.txt')}` as SecretReference;
  const config = { ...kit.config, plaid: { ...kit.config.plaid, clients: [{ ...client(kit.config), secret }] } };

  for (const roles of [['worker'], ['gateway']] as const) {
    const error = await refusal({ kit, config, roles });
    assert.equal(error.code, 'STAMP_MISMATCH');
    assert.match(error.message, /plaid\.secret is another secret, the database has secret of (d0){12}/);
    assert.ok(!error.message.includes(value));
  }
  const after = await everything(kit.database.connection('superuser'));
  const changed = Object.keys(after).filter((table) => after[table] !== before[table]);
  // To compare, the fingerprint key is unwrapped, and that has to be in the log.
  assert.deepEqual(changed.sort(), ['audit_groups', 'audit_writers']);
  assert.deepEqual(findingsOf(await doctorOn(kit, { config })), ['keys: STAMP_MISMATCH plaid.secret']);
  await kit.start();
});

test('a database that was put back to an older state is not started on, and doctor names it', async (t) => {
  const kit = await strongroom(t);
  const app = await kit.application();
  const { handle } = await app.link();
  await kit.stop();
  const backup = `${kit.database.name}_backup`;
  const server = await openSession({ ...kit.database.connection('superuser'), database: 'postgres' });
  t.after(async () => {
    await server.sql.query(`drop database if exists ${backup} with (force)`);
    await server.close();
  });
  await ensureDatabase(server.sql, backup, kit.database.name);
  const restored = (role: Role) => ({ ...kit.database.connection(role), database: backup });

  // Life goes on: a rotation, whose old token the backup still has.
  await kit.start();
  assert.equal((await app.post('/item/access_token/invalidate', { access_token: handle })).status, 200);
  await kit.stop();

  const before = await everything({ ...kit.database.connection('superuser'), database: backup });
  for (const roles of [ROLES, ['worker'], ['gateway']] as const) {
    const error = await refusal({ kit, config: kit.config, roles, connection: restored });
    assert.equal(error.code, 'AUDIT_BROKEN');
    assert.match(
      error.message,
      /The database is behind: it has \d+ entries, a head of \d+ left it earlier \(.*audit-heads\.log\)/,
    );
  }
  const checks = await doctorOn({
    ...kit,
    database: { ...kit.database, connection: (login) => restored(login as Role) },
  });
  assert.deepEqual(findingsOf(checks), [`heads: behind ${join(kit.home, 'audit-heads.log')}`]);
  assert.equal(checks.keys?.outcome, 'skipped', 'nothing is added to what a person has to look at');
  assert.deepEqual(await everything({ ...kit.database.connection('superuser'), database: backup }), before);

  await kit.start();
  assert.equal((await app.post('/accounts/get', { access_token: handle })).status, 200);
});

test('a database in which the same entries were signed anew is another history', async (t) => {
  const kit = await strongroom(t);
  await (await kit.application()).link();
  await kit.stop();
  const owner = await kit.database.open('owner');
  await owner.sql.query('alter table audit_checkpoints disable trigger user');
  await owner.sql.query('update audit_checkpoints set root = sha256(root)');
  await owner.sql.query('alter table audit_checkpoints enable trigger user');
  const error = await refusal({ kit, config: kit.config, roles: ['gateway'] });
  assert.equal(error.code, 'AUDIT_BROKEN');
  assert.match(error.message, /The database is forked/);
});

test('a gateway does not start on a database that no worker has stamped', async (t) => {
  const kit = await strongroom(t, { roles: ['admin'] });
  const error = await refusal({ kit, config: kit.config, roles: ['gateway'] });
  assert.equal(error.code, 'STAMP_MISMATCH');
  assert.match(error.message, /start the worker role first/);
});

test('a handle of one deployment means nothing to another', async (t) => {
  const [one, other] = [await strongroom(t), await strongroom(t, { config: { deployment: { id: 'other' } } })];
  const { handle } = await (await one.application()).link();
  const sent = (await other.reached()).length;
  refusedWith(await (await other.application()).post('/accounts/get', { access_token: handle }), 'HANDLE_FOREIGN');
  assert.equal((await other.reached()).length, sent);
});

function client({ plaid }: Config) {
  return plaid.clients[0] ?? assert.fail('no Plaid client');
}

interface Attempt {
  readonly kit: Kit;
  readonly config: Config;
  readonly roles: readonly Role[];
  readonly connection?: (role: Role) => ConnectionOptions;
}

async function refusal({ kit, config, roles, connection }: Attempt): Promise<StrongroomError> {
  try {
    const started = await startStrongroom({
      config,
      roles,
      connection: connection ?? ((role) => kit.database.connection(role)),
      log: createLog({ write: () => {} }),
    });
    await started.stop();
  } catch (error) {
    assert.ok(error instanceof StrongroomError, String(error));
    return error;
  }
  return assert.fail('it started');
}

/** A digest of every table. */
async function everything(superuser: ConnectionOptions): Promise<Record<string, string>> {
  const session = await openSession(superuser);
  try {
    const { rows: tables } = await session.sql.query<{ name: string }>(
      `select relname::text as name from pg_class where relnamespace = 'strongroom'::regnamespace and relkind = 'r' order by 1`,
    );
    const digests: Record<string, string> = {};
    for (const { name } of tables) {
      const { rows } = await session.sql.query<{ digest: string }>(
        `select coalesce(md5(string_agg(t::text, E'\\n' order by t::text)), '') as digest from ${name} t`,
      );
      digests[name] = rows[0]?.digest ?? '';
    }
    assert.ok(tables.length > 10);
    return digests;
  } finally {
    await session.close();
  }
}
