import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { run } from '../../src/cli/main.ts';
import type { Check } from '../../src/main.ts';
import type { DatabaseRole } from '../../src/store/connection.ts';
import { type Kit, strongroom } from '../support/strongroom.ts';

test('doctor says one line for each check, and ends with 0', async (t) => {
  const kit = await strongroom(t);
  await (await kit.application()).link();
  const { code, stdout } = await doctor('--config', configFor(kit, ['auditor', 'worker']));
  assert.equal(code, 0, stdout);
  const lines = stdout.trim().split('\n');
  const names = [
    'server',
    'logins',
    'schema',
    'stamp',
    'keys',
    'records',
    'applications',
    'audit log',
    'heads',
    'operations',
  ];
  assert.deepEqual(
    lines.map((line) => line.slice(9, 22).trim()),
    names,
  );
  assert.match(stdout, /^ok {7}records {7}1 records/m);
});

test('a finding is named with what to do, and ends with 1; a terminal is not moved by what the database holds', async (t) => {
  const kit = await strongroom(t);
  await kit.application();
  const owner = await kit.database.open('owner');
  await owner.sql.query(`update applications set policy = '{}'`);
  await owner.sql.query(`create function "strongroom"."\u001b[2Jgone" () returns int language sql as 'select 1'`);

  const config = configFor(kit, ['auditor']);
  const { code, stdout } = await doctor('--config', config);
  assert.equal(code, 1);
  assert.match(
    stdout,
    /^FINDING {2}applications {2}1 of 1 applications are not as the audit log says\n {11}policy [0-9a-f]{24}: /m,
  );
  assert.match(stdout, /^ {11}What to do: Find out who/m);
  assert.doesNotMatch(stdout, /\u001b/);

  const json = await doctor('--config', config, '--json');
  assert.equal(json.code, 1);
  const { ok, checks } = JSON.parse(json.stdout) as { ok: boolean; checks: Check[] };
  assert.equal(ok, false);
  assert.deepEqual(
    checks.filter(({ outcome }) => outcome === 'finding').map(({ name }) => name),
    ['schema', 'applications'],
  );
  assert.equal(checks.find(({ name }) => name === 'keys')?.outcome, 'skipped');
});

test('a configuration of another installation, another KEK or none is a finding, and nothing is written', async (t) => {
  const kit = await strongroom(t);
  await kit.stop();
  const before = await entriesWritten(kit);
  const said = async (change: (config: Config) => void) => {
    const { code, stdout } = await doctor('--config', configFor(kit, ['auditor', 'worker'], change), '--json');
    assert.equal(code, 1, stdout);
    const { checks } = JSON.parse(stdout) as { checks: Check[] };
    return checks
      .filter(({ outcome }) => outcome === 'finding')
      .flatMap(({ name, details }) => details.map(({ code, id }) => `${name} ${code} ${id}`));
  };
  assert.deepEqual(
    await said((config) => {
      config.deployment = { ...config.deployment, id: 'other' };
    }),
    ['stamp STAMP_MISMATCH deployment.id'],
  );
  writeFileSync(join(kit.home, 'other-kek'), Buffer.alloc(32, 7), { mode: 0o600 });
  const keys = await said((config) => {
    config.kms = { provider: 'file', file: { path: join(kit.home, 'other-kek') } };
  });
  assert.equal(keys[0], 'stamp STAMP_MISMATCH kms');
  assert.deepEqual([...new Set(keys.slice(1).map((text) => text.slice(0, 14)))], ['keys KEK_WRONG']);
  assert.deepEqual(
    await said((config) => {
      config.kms = { provider: 'file', file: { path: join(kit.home, 'no-kek') } };
    }),
    ['keys KEK_MISSING null'],
  );
  assert.equal(await entriesWritten(kit), before);
});

test('what cannot be looked at is a failure, not a finding', async (t) => {
  const kit = await strongroom(t);
  const none = await doctor('--config', configFor(kit, ['gateway']));
  assert.deepEqual([none.code, /CONFIG_INVALID/.test(none.stderr)], [3, true], none.stderr);
  const path = configFor(kit, ['auditor'], (config) => {
    config.database = { ...config.database, url: config.database.url.replace(/\/strongroom_[^?]*/, '/nowhere') };
  });
  const away = await doctor('--config', path);
  assert.deepEqual([away.code, /DATABASE_UNAVAILABLE/.test(away.stderr)], [3, true], away.stderr);
  assert.equal((await doctor('--config', join(kit.home, 'nothing.yaml'))).code, 3);
  assert.equal((await doctor('--colour')).code, 2);
});

interface Config {
  deployment: { id: string; environment: string };
  database: { url: string; [more: string]: unknown };
  kms: unknown;
  [more: string]: unknown;
}

/** The configuration of a kit as a file, with logins on its server. */
function configFor(kit: Kit, logins: readonly DatabaseRole[], change: (config: Config) => void = () => {}): string {
  const { deployment, plaid, kms, listeners, audit } = kit.config;
  const { host, port, database } = kit.database.connection('gateway');
  const folder = join(kit.home, 'logins');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const login = (role: DatabaseRole) => {
    const { user, password } = kit.database.connection(role);
    const file = join(folder, `${role}.txt`);
    writeFileSync(file, password.reveal(), { mode: 0o600 });
    return [role, { user, password: `file:${file}` }];
  };
  const local = host.startsWith('/');
  const config = structuredClone({
    deployment,
    plaid,
    kms,
    listeners,
    audit,
    database: {
      url: local ? `postgres:///${database}?host=${host}` : `postgres://${host}:${port}/${database}`,
      topology: 'single',
      ...(local ? {} : { tls: 'off' }),
      logins: Object.fromEntries(logins.map(login)),
    },
  }) as unknown as Config;
  change(config);
  const path = join(kit.home, `strongroom-${logins.join('-')}.yaml`);
  rmSync(path, { force: true });
  writeFileSync(path, stringify(config), { mode: 0o600 });
  return path;
}

async function doctor(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  const into = (chunks: Buffer[]) => new PassThrough().on('data', (chunk: Buffer) => chunks.push(chunk));
  const code = await run(['doctor', ...argv], { stdin: new PassThrough(), stdout: into(out), stderr: into(err) });
  return { code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
}

async function entriesWritten(kit: Kit): Promise<number> {
  return (await kit.entries()).length;
}
