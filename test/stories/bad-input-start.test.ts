import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { StrongroomError } from '../../src/base/errors.ts';
import { DEV_FILES } from '../../src/config.ts';
import { createKekFile } from '../../src/envelope/kms-file.ts';
import { forTheFile } from '../support/database.ts';
import { DOCUMENTED } from '../support/refusal.ts';
import { strongroom } from '../support/strongroom.ts';

/**
 * A start without what is needed, or with something else in its place: refused by
 * name, with nothing changed, and the next start with the right things works.
 */

const kit = await strongroom(forTheFile);
const app = await kit.application();
const { handle } = await app.link();
await kit.stop();

const file = (name: string) => join(kit.home, name);
const replaced = (name: string, put: (path: string) => Promise<void> | void) => async () => {
  const path = file(name);
  renameSync(path, `${path}.kept`);
  await put(path);
  return () => {
    rmSync(path, { force: true, recursive: true });
    renameSync(`${path}.kept`, path);
  };
};
const write =
  (bytes: string | Buffer, mode = 0o600) =>
  (path: string) =>
    writeFileSync(path, bytes, { mode });
const open = (name: string) => async () => {
  chmodSync(file(name), 0o644);
  return () => chmodSync(file(name), 0o600);
};

const owner = await kit.database.open('owner', { poolSize: 1 });
const altered = (statement: string, back: string) => async () => {
  await owner.sql.query(statement);
  return async () => void (await owner.sql.query(back));
};

interface Wrong {
  readonly name: string;
  readonly codes: readonly string[];
  /** Makes it wrong; returns how to make it right again. */
  readonly spoil: () => Promise<() => Promise<void> | void>;
}

const KEK = DEV_FILES.kek;
const WRONG: readonly Wrong[] = [
  { name: 'no KEK', codes: ['KEK_MISSING'], spoil: replaced(KEK, () => {}) },
  {
    name: 'another KEK',
    codes: ['KEK_WRONG', 'STAMP_MISMATCH'],
    spoil: replaced(KEK, async (path) => void (await createKekFile(path))),
  },
  { name: 'an empty KEK', codes: ['KMS_REFUSED'], spoil: replaced(KEK, write('')) },
  { name: 'a KEK that is too long', codes: ['KMS_REFUSED'], spoil: replaced(KEK, write(randomBytes(1_000))) },
  { name: 'a KEK that others can read', codes: ['KMS_REFUSED'], spoil: open(KEK) },
  {
    name: 'a KEK behind a link',
    codes: ['KMS_REFUSED'],
    spoil: replaced(KEK, (path) => symlinkSync(`${path}.kept`, path)),
  },
  {
    name: 'a folder for a KEK',
    codes: ['KMS_REFUSED'],
    spoil: replaced(KEK, (path) => mkdirSync(path)),
  },
  { name: 'no Plaid secret', codes: ['SECRET_UNREADABLE'], spoil: replaced(DEV_FILES.plaidSecret, () => {}) },
  { name: 'an empty Plaid secret', codes: ['SECRET_UNREADABLE'], spoil: replaced(DEV_FILES.plaidSecret, write('')) },
  { name: 'a Plaid secret that others can read', codes: ['SECRET_UNREADABLE'], spoil: open(DEV_FILES.plaidSecret) },
  {
    name: 'another Plaid secret',
    codes: ['STAMP_MISMATCH'],
    spoil: replaced(DEV_FILES.plaidSecret, write('f'.repeat(30))),
  },
  { name: 'no signing key', codes: ['SECRET_UNREADABLE'], spoil: replaced(DEV_FILES.signingKey, () => {}) },
  { name: 'no admin token', codes: ['SECRET_UNREADABLE'], spoil: replaced(DEV_FILES.adminToken, () => {}) },
  {
    name: 'a damaged data key',
    codes: ['KMS_REFUSED'],
    spoil: altered(
      `update data_keys set wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1) where purpose = 'record'`,
      `update data_keys set wrapped = set_byte(wrapped, 40, get_byte(wrapped, 40) # 1) where purpose = 'record'`,
    ),
  },
  {
    name: 'a log that takes no entries',
    codes: ['AUDIT_UNAVAILABLE'],
    spoil: altered(
      'revoke insert on audit_groups from strongroom_gateway, strongroom_worker, strongroom_admin',
      'grant insert on audit_groups to strongroom_gateway, strongroom_worker, strongroom_admin',
    ),
  },
  {
    name: 'a database that lets nobody in',
    codes: ['DATABASE_UNAVAILABLE'],
    spoil: altered(
      `alter database ${kit.database.name} connection limit 0`,
      `alter database ${kit.database.name} connection limit -1`,
    ),
  },
];

const stored = async () => (await owner.sql.query('select * from secrets')).rows;

for (const { name, codes, spoil } of WRONG) {
  test(`${name}: the start is refused with ${codes.join(' or ')}, and the next one works`, async () => {
    const before = await stored();
    const lines = kit.log.length;
    const mend = await spoil();
    try {
      await assert.rejects(kit.start(), (error) => {
        assert.ok(error instanceof StrongroomError, String(error));
        assert.ok(codes.includes(error.code), `${error.code}: ${error.message}`);
        assert.ok(DOCUMENTED.has(error.code), `${error.code} has no row in docs/errors.md`);
        return true;
      });
    } finally {
      await mend();
    }
    assert.deepEqual(await stored(), before);
    // A role that was up before another one failed has been stopped again.
    for (const line of kit.log.slice(lines)) {
      const { origin } = JSON.parse(line) as { origin?: string };
      if (origin !== undefined) await assert.rejects(fetch(`${origin}/healthz`), 'nobody listens');
    }
  });
}

test('a port that is taken: LISTEN_FAILED, and what was started is stopped again', async (t) => {
  const squatter = createServer();
  await new Promise<void>((resolve) => squatter.listen(0, '127.0.0.1', resolve));
  t.after(() => squatter.close());
  const { port } = squatter.address() as { port: number };
  await assert.rejects(
    strongroom(t, { config: { listeners: { gateway: { host: '127.0.0.1', port, trustedProxies: [] } } } }),
    (error) => error instanceof StrongroomError && error.code === 'LISTEN_FAILED',
  );
});

test('with everything in its place again it starts, and the handle still opens', async () => {
  await kit.start();
  const answer = await app.post('/accounts/get', { access_token: handle });
  assert.equal(answer.status, 200, answer.text);
  await kit.stop();
});
