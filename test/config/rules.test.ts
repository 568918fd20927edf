import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { StrongroomError } from '../../src/base/errors.ts';
import { checkConfig, describeFinding, loadConfig } from '../../src/config.ts';
import { hostileEnvironment } from '../../src/config-environment.ts';
import { RULES, references } from '../../src/config-rules.ts';
import { CONFIG } from '../../src/config-schema.ts';
import { changed, GOOD, PRODUCTION } from './files.ts';

type Row = readonly [rule: string, base: string, changes: Record<string, unknown>, setting: string];

const own = { 'database.embedded': true };
/** For each rule a file that breaks it, and the setting that is named. */
const BREACHES: readonly Row[] = [
  ['development-uses-sandbox', GOOD, { 'plaid.environment': 'production' }, 'plaid.environment'],
  ['production-uses-production', PRODUCTION, { 'plaid.environment': 'sandbox' }, 'plaid.environment'],
  [
    'upstream-sandbox-only',
    GOOD,
    { 'deployment.environment': 'staging', 'plaid.environment': 'production' },
    'plaid.upstream',
  ],
  ['upstream-not-in-production', PRODUCTION, { 'plaid.upstream': 'https://127.0.0.1' }, 'plaid.upstream'],
  ['upstream-tls', GOOD, { 'plaid.upstream': 'http://10.1.1.1' }, 'plaid.upstream'],
  ['one-database', GOOD, own, 'database.url'],
  ['one-database', GOOD, { 'database.url': undefined }, 'database'],
  ['embedded-makes-its-logins', GOOD, { ...own, 'database.url': undefined }, 'database.logins'],
  ['own-server-needs-logins', GOOD, { 'database.logins': undefined }, 'database.logins'],
  ['logins-differ', GOOD, { 'database.logins.admin.user': 'sr_gateway' }, 'database.logins.admin.user'],
  ['database-tls', GOOD, { 'database.tls': 'off' }, 'database.tls'],
  [
    'embedded-not-in-production',
    PRODUCTION,
    { ...own, 'database.url': undefined, 'database.logins': undefined },
    'database.embedded',
  ],
  ['file-key-path', GOOD, { 'kms.file': undefined }, 'kms.file'],
  ['file-key-not-in-production', PRODUCTION, {}, 'kms.provider'],
  ['secrets-manager-in-production', PRODUCTION, {}, 'audit.signingKey'],
  ['one-secret-one-purpose', GOOD, { 'audit.signingKey': 'file:/secrets/plaid' }, 'audit.signingKey'],
  [
    'clients-differ',
    GOOD,
    {
      'plaid.clients': ['a', 'b'].map((x) => ({ name: x, clientId: '0'.repeat(24), secret: `file:/s/${x}` })),
    },
    'plaid.clients[1].clientId',
  ],
  ['gateway-tls', PRODUCTION, { 'listeners.gateway.host': '0.0.0.0' }, 'listeners.gateway.host'],
  ['admin-stays-local', GOOD, { 'listeners.admin.host': '0.0.0.0' }, 'listeners.admin.host'],
  ['ports-differ', GOOD, { 'listeners.admin.port': 7100 }, 'listeners.admin.port'],
  ['head-is-one-place', GOOD, { 'audit.heads': [{}] }, 'audit.heads[0]'],
  ['head-is-one-place', GOOD, { 'audit.heads': [{ file: '/a', url: 'https://x' }] }, 'audit.heads[0]'],
  ['head-over-tls', PRODUCTION, { 'audit.heads': [{ url: 'http://heads.example/' }] }, 'audit.heads[0].url'],
  ['heads-leave-the-database', PRODUCTION, { 'audit.heads': [] }, 'audit.heads'],
  ['quiet-log', PRODUCTION, { 'logging.level': 'debug' }, 'logging.level'],
  ['quiet-log', PRODUCTION, { 'logging.level': 'trace' }, 'logging.level'],
  ['answers-fit', GOOD, { 'limits.answerBytes': 1_048_576 }, 'limits.bufferedAnswerBytes'],
  [
    'endpoints-differ',
    GOOD,
    { endpoints: [1, 2].map(() => ({ path: '/new/get', class: 'item' })) },
    'endpoints[1].path',
  ],
];

for (const [rule, base, changes, setting] of BREACHES) {
  test(`${rule} refuses ${JSON.stringify(changes).slice(0, 80)} and names ${setting}`, () => {
    const text = changed(changes, base);
    const { findings } = checkConfig(text, 'strongroom.yaml');
    const found = findings.filter((finding) => finding.rule === rule);
    assert.ok(
      found.some((finding) => finding.setting === setting),
      findings.map(describeFinding).join('\n'),
    );
    const production = RULES.find(({ name }) => name === rule)?.production === true;
    for (const finding of found) {
      assert.equal(finding.code, production ? 'PRODUCTION_REFUSED' : 'CONFIG_INVALID');
      // The line that is named is where the setting, or its section, stands.
      const line = text.split('\n')[finding.line - 1] ?? '';
      const last = finding.setting
        .replace(/\[\d+\]$/, '')
        .split('.')
        .at(-1) as string;
      const section = finding.setting.split('.').at(-2) ?? last;
      assert.ok(
        line.includes(last.replace(/\[\d+\]/, '')) || line.includes(section) || line.trim().startsWith('-'),
        `${finding.setting}: ${line}`,
      );
    }
  });
}

test('every rule is broken by a file above', () => {
  const broken = new Set(BREACHES.map(([rule]) => rule));
  assert.deepEqual(
    RULES.map(({ name }) => name).filter((name) => !broken.has(name)),
    [],
  );
});

test('production cannot be started yet, and says why with a line for each reason', () => {
  const { config, findings } = checkConfig(PRODUCTION, 'strongroom.yaml');
  assert.equal(config, null);
  assert.ok(findings.every(({ code }) => code === 'PRODUCTION_REFUSED'));
  assert.deepEqual([...new Set(findings.map(({ rule }) => rule))].sort(), [
    'file-key-not-in-production',
    'secrets-manager-in-production',
  ]);
  assert.ok(findings.every(({ line }) => line > 1));
});

test('what production refuses, development and staging take', () => {
  for (const environment of ['development', 'staging']) {
    for (const [rule, , changes] of BREACHES) {
      if (RULES.find(({ name }) => name === rule)?.production !== true) continue;
      const text = changed({ ...changes, 'deployment.environment': environment, 'plaid.environment': 'sandbox' });
      assert.deepEqual(checkConfig(text, 'f').findings, [], `${rule} in ${environment}`);
    }
  }
});

test('one mistake does not hide another: rules speak beside wrong settings', () => {
  const { findings } = checkConfig(changed({ 'limits.queue': 'x', 'logging.level': 'debug' }, PRODUCTION), 'f');
  const settings = findings.map(({ setting }) => setting);
  for (const setting of ['limits.queue', 'logging.level', 'kms.provider'])
    assert.ok(settings.includes(setting), setting);
});

test('a misspelt setting is not also called missing by a rule', () => {
  const text = changed({ 'database.url': undefined, 'database.urll': 'postgres://h/d' });
  assert.deepEqual(
    checkConfig(text, 'f').findings.map(({ setting }) => setting),
    ['database.urll'],
  );
});

test('the rules know every reference of the table', () => {
  const inTable: string[] = [];
  const walk = (schema: Record<string, unknown>, path: string): void => {
    if (schema.meaning === 'reference') inTable.push(path);
    for (const [key, inner] of Object.entries((schema.properties ?? {}) as object))
      walk(inner, path === '' ? key : `${path}.${key}`);
    if (schema.items !== undefined) walk(schema.items as Record<string, unknown>, `${path}[0]`);
  };
  walk(CONFIG as unknown as Record<string, unknown>, '');
  const login = { user: 'u', password: 'file:/p' };
  const known = references({
    plaid: { clients: [{ secret: 'file:/s' }] },
    database: { logins: { owner: login, gateway: login, admin: login, worker: login, auditor: login } },
    listeners: { gateway: { tls: { key: 'file:/k' } }, admin: { token: 'file:/t' } },
    audit: { signingKey: 'file:/a' },
  } as never);
  assert.deepEqual(known.map(([setting]) => setting).sort(), inTable.sort());
  assert.ok(known.every(([, value]) => value !== undefined));
});

const VARIABLES: readonly [env: Record<string, string>, name: string][] = [
  [{ NODE_TLS_REJECT_UNAUTHORIZED: '0' }, 'NODE_TLS_REJECT_UNAUTHORIZED'],
  [{ NODE_EXTRA_CA_CERTS: '/x' }, 'NODE_EXTRA_CA_CERTS'],
  [{ NODE_USE_SYSTEM_CA: '1' }, 'NODE_USE_SYSTEM_CA'],
  [{ SSL_CERT_FILE: '/x' }, 'SSL_CERT_FILE'],
  [{ OPENSSL_CONF: '/x' }, 'OPENSSL_CONF'],
  [{ SSLKEYLOGFILE: '/x' }, 'SSLKEYLOGFILE'],
  [{ NODE_DEBUG: 'http' }, 'NODE_DEBUG'],
  [{ NODE_DEBUG_NATIVE: 'tls' }, 'NODE_DEBUG_NATIVE'],
  [{ NODE_V8_COVERAGE: '/x' }, 'NODE_V8_COVERAGE'],
  [{ NODE_PATH: '/x' }, 'NODE_PATH'],
  [{ NODE_COMPILE_CACHE: '/x' }, 'NODE_COMPILE_CACHE'],
  [{ NODE_USE_ENV_PROXY: '1' }, 'NODE_USE_ENV_PROXY'],
  [{ NODE_REDIRECT_WARNINGS: '/x' }, 'NODE_REDIRECT_WARNINGS'],
  [{ LD_PRELOAD: '/x.so' }, 'LD_PRELOAD'],
  [{ DYLD_INSERT_LIBRARIES: '/x' }, 'DYLD_INSERT_LIBRARIES'],
  [{ PGPASSWORD: 'x' }, 'PGPASSWORD'],
  [{ PGSSLMODE: 'disable' }, 'PGSSLMODE'],
  [{ PGOPTIONS: '-c fsync=off' }, 'PGOPTIONS'],
  [{ NODE_OPTIONS: '--inspect' }, 'NODE_OPTIONS --inspect'],
  [{ NODE_OPTIONS: '--max-old-space-size=100 --inspect-brk=0.0.0.0:9229' }, 'NODE_OPTIONS --inspect-brk'],
  [{ NODE_OPTIONS: '--require "/tmp/a b.js"' }, 'NODE_OPTIONS --require'],
  [{ NODE_OPTIONS: '-r /tmp/x.js' }, 'NODE_OPTIONS -r'],
  [{ NODE_OPTIONS: '"--import=/tmp/x.js"' }, 'NODE_OPTIONS --import'],
  [{ NODE_OPTIONS: '--tls-min-v1.0' }, 'NODE_OPTIONS a flag'],
  [{ NODE_OPTIONS: '--insecure-http-parser' }, 'NODE_OPTIONS --insecure-http-parser'],
  [{ NODE_OPTIONS: '--heapsnapshot-signal=SIGUSR2' }, 'NODE_OPTIONS --heapsnapshot-signal'],
  [{ NODE_OPTIONS: '--report_on_fatalerror' }, 'NODE_OPTIONS --report_on_fatalerror'],
  [{ NODE_OPTIONS: '--allow-inspector' }, 'NODE_OPTIONS --allow-inspector'],
];

for (const [env, name] of VARIABLES) {
  test(`${JSON.stringify(env)} is found, by name and without its value`, () => {
    const found = hostileEnvironment(env, []);
    assert.deepEqual(
      found.map((one) => one.name),
      [name],
    );
    assert.ok(!JSON.stringify(found).includes('/x') && !JSON.stringify(found).includes('/tmp'));
  });
}

test('a flag of Node itself is found like one of NODE_OPTIONS', () => {
  assert.deepEqual(
    hostileEnvironment({}, ['--inspect=0.0.0.0']).map(({ name }) => name),
    ['--inspect'],
  );
});

test('an ordinary environment has nothing hostile', () => {
  const env = {
    PATH: '/bin',
    HOME: '/root',
    PAGER: 'less',
    LANG: 'C',
    STRONGROOM_HOME: '/h',
    NODE_TLS_REJECT_UNAUTHORIZED: '1',
    NODE_DEBUG: '',
    NODE_OPTIONS: '--max-semi-space-size=64 --disable-warning=ExperimentalWarning',
  };
  assert.deepEqual(hostileEnvironment(env, ['--disable-sigusr1', '--max_semi_space_size=32']), []);
});

test('a hostile environment stops staging and leaves development alone', () => {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-rules-'));
  const start = { env: { NODE_TLS_REJECT_UNAUTHORIZED: '0' }, execArgv: ['--inspect'] };
  try {
    const path = join(folder, 'strongroom.yaml');
    writeFileSync(path, GOOD);
    assert.equal(loadConfig(path, start).deployment.environment, 'development');
    writeFileSync(path, changed({ 'deployment.environment': 'staging' }));
    assert.throws(
      () => loadConfig(path, start),
      (error: StrongroomError) => {
        assert.equal(error.code, 'PRODUCTION_REFUSED');
        return /NODE_TLS_REJECT_UNAUTHORIZED[\s\S]*--inspect/.test(error.message);
      },
    );
    writeFileSync(path, PRODUCTION);
    assert.throws(() => loadConfig(path, { env: {}, execArgv: [] }), { code: 'PRODUCTION_REFUSED' });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
