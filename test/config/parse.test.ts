import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Ajv } from 'ajv';
import fc from 'fast-check';
import { parse } from 'yaml';
import { jsonSchema } from '../../scripts/config-docs.ts';
import type { StrongroomError } from '../../src/base/errors.ts';
import { checkConfig, describeFinding, devConfig, environment, type Finding, loadConfig } from '../../src/config.ts';
import { changed, GOOD } from './files.ts';

function findings(text: string): readonly Finding[] {
  return checkConfig(text, 'strongroom.yaml').findings;
}

function lines(text: string): string[] {
  return findings(text).map(describeFinding);
}

test('a good file becomes a typed configuration, with every default filled in, frozen', () => {
  const { config, findings: none } = checkConfig(GOOD, 'f');
  assert.deepEqual(none, []);
  assert.ok(config !== null);
  assert.equal(config.limits.bodyBytes, 8 * 1024 * 1024);
  assert.equal(config.listeners.gateway.host, '127.0.0.1');
  assert.deepEqual(config.endpoints, []);
  assert.equal(config.logging.destination, 'stdout');
  assert.equal(config.plaid.clients[0]?.secret, 'file:/secrets/plaid');
  assert.throws(() => {
    (config.limits as { bodyBytes: number }).bodyBytes = 1;
  }, TypeError);
});

/** Each broken file, and where and what the one finding says. */
const BROKEN: readonly [name: string, text: string, finding: RegExp][] = [
  [
    'a misspelt setting',
    changed({ 'database.poolsize': 3 }),
    /^strongroom\.yaml:\d+:3 \[database\.poolsize\] .*did you mean poolSize\?/,
  ],
  [
    'a setting of another section',
    `bodyBytes: 3\n${GOOD}`,
    /^strongroom\.yaml:1:1 \[bodyBytes\] .*it belongs at limits\.bodyBytes/,
  ],
  ['an unknown setting', changed({ 'plaid.zzzzzz': 3 }), /known here: environment, clients, upstream/],
  ['a number for a text', changed({ 'deployment.id': 7 }), /\[deployment\.id\] this must be text; put it in quotes/],
  [
    'a text for a number',
    changed({ 'limits.queue': 'many' }),
    /\[limits\.queue\] this must be a whole number; write a whole number from 1 to 65535/,
  ],
  ['a size with a unit', changed({ 'limits.bodyBytes': '8 MiB' }), /write 8388608/],
  ['a time with a unit', changed({ 'limits.upstreamMs': '30s' }), /write 30000/],
  ['minutes for seconds', changed({ 'kms.cache.seconds': '5m' }), /write 300/],
  ['a time for a size', changed({ 'limits.bodyBytes': '8s' }), /whole number/],
  ['a fraction', changed({ 'limits.queue': 1.5 }), /whole number/],
  ['too small', changed({ 'limits.bodyDepth': 1 }), /too small; write a whole number from 4 to 64/],
  ['too large', changed({ 'listeners.gateway.port': 70_000 }), /too large; write a whole number from 0 to 65535/],
  ['a word for a switch', changed({ 'database.embedded': 'yes' }), /true or false/],
  ['an unknown word', changed({ 'logging.level': 'warning' }), /did you mean warn\?/],
  ['a far unknown word', changed({ 'logging.level': 'loud' }), /write one of: trace, debug, info, warn, error/],
  [
    'an empty setting',
    GOOD.replace('id: acme-dev', 'id:'),
    /strongroom\.yaml:2:\d+ \[deployment\.id\] this setting is empty/,
  ],
  ['an empty text', changed({ 'deployment.id': '' }), /\[deployment\.id\] this setting is empty/],
  ['a value for a section', changed({ limits: 3 }), /\[limits\] settings belong below this name/],
  ['a list for a value', changed({ 'deployment.id': ['a'] }), /\[deployment\.id\] this must be one value/],
  ['a value for a list', changed({ 'audit.heads': 'x' }), /\[audit\.heads\] this must be a list/],
  ['an empty list where one is needed', changed({ 'plaid.clients': [] }), /\[plaid\.clients\] this list is too short/],
  [
    'a missing setting',
    changed({ 'audit.signingKey': undefined }),
    /\[audit\.signingKey\] this setting is missing; add `signingKey:`/,
  ],
  ['a bad name', changed({ 'deployment.id': 'Acme Dev' }), /write a lower-case letter/],
  ['a relative path', changed({ 'kms.file.path': 'kek' }), /not an absolute path/],
  ['a reference with a relative path', changed({ 'audit.signingKey': 'file:key' }), /must be absolute/],
  ['a reference of another store', changed({ 'audit.signingKey': 'vault://x' }), /vault: is not supported yet/],
  ['a host name to listen on', changed({ 'listeners.gateway.host': 'example.com' }), /not an IP address/],
  ['a CIDR without prefix', changed({ 'listeners.gateway.trustedProxies': ['10.1.2.3'] }), /add \/32/],
  ['a CIDR of everybody', changed({ 'listeners.gateway.trustedProxies': ['::/0'] }), /trusts every address/],
  ['a CIDR that is none', changed({ 'listeners.gateway.trustedProxies': ['10.0.0.0/33'] }), /not a CIDR/],
  ['an upstream with a path', changed({ 'plaid.upstream': 'https://x/y' }), /no path/],
  ['an upstream with credentials', changed({ 'plaid.upstream': 'https://a:b@x' }), /no credentials/],
  ['an upstream of another scheme', changed({ 'plaid.upstream': 'file:///etc/passwd' }), /only http and https/],
  ['a database URL of another kind', changed({ 'database.url': 'mysql://h/x' }), /only PostgreSQL/],
  ['a database URL with a password', changed({ 'database.url': 'postgres://u:p@h/x' }), /no user and no password/],
  [
    'a database URL with options',
    changed({ 'database.url': 'postgres://h/x?sslmode=disable' }),
    /only the parameter `host`/,
  ],
  ['a database URL without a server', changed({ 'database.url': 'postgres:///x' }), /names no server/],
  ['a database URL without a database', changed({ 'database.url': 'postgres://h' }), /names no database/],
  [
    'a declared endpoint with a bad path',
    changed({ endpoints: [{ path: '/a?b', class: 'item' }] }),
    /\[endpoints\[0\]\.path\]/,
  ],
  [
    'a declared endpoint with an unknown kind',
    changed({ endpoints: [{ path: '/a', class: 'item', request: [{ at: 'x', kind: 'acess' }] }] }),
    /\[endpoints\[0\]\.request\[0\]\.kind\] .*did you mean access\?/,
  ],
  [
    'a setting written twice',
    GOOD.replace('  id: acme-dev', '  id: acme-dev\n  id: other'),
    /:3:3 \[deployment\.id\] this setting stands on line 2 already/,
  ],
  ['a name that is no word', `1: x\n${GOOD}`, /:1:1 the name of a setting must be a word/],
  ['__proto__', `__proto__: { x: 1 }\n${GOOD}`, /\[__proto__\] there is no such setting/],
  ['constructor', `constructor: { x: 1 }\n${GOOD}`, /\[constructor\] there is no such setting/],
  ['toString in a section', changed({ 'limits.toString': 1 }), /\[limits\.toString\] there is no such setting/],
  [
    'a tab',
    GOOD.replace('  id: acme-dev', '\tid: acme-dev'),
    /:2:1 a tab stands where spaces belong; indent with spaces/,
  ],
  ['an open bracket', `${GOOD}endpoints: [1`, /strongroom\.yaml:\d+:\d+ /],
  ['two colons', GOOD.replace('id: acme-dev', 'id: acme: dev'), /:2:\d+ a second ": " stands on this line/],
  ['a second document', `${GOOD}---\nx: 1\n`, /a second document begins here/],
  ['an anchor', GOOD.replace('id: acme-dev', 'id: &x acme-dev'), /:2:\d+ anchors are not allowed/],
  ['a tag', GOOD.replace('id: acme-dev', 'id: !!js/function acme-dev'), /:2:\d+ tags are not allowed/],
  ['a directive', `%YAML 1.1\n---\n${GOOD}`, /directives are not allowed/],
];

for (const [name, text, expected] of BROKEN) {
  test(`${name} is named with its line and what to write instead`, () => {
    const found = lines(text);
    assert.ok(
      found.some((line) => expected.test(line)),
      found.join('\n') || 'no finding',
    );
    assert.equal(checkConfig(text, 'f').config, null);
    for (const { line, column, write } of findings(text)) {
      assert.ok(line >= 1 && column >= 1 && line <= text.split('\n').length);
      assert.notEqual(write, '');
    }
  });
}

test('every error is told at once, in the order of the file', () => {
  const text = changed({
    'deployment.environment': 'prod',
    'plaid.clients': [{ name: 'a', clientId: 'short', secret: 'x'.repeat(30) }],
    'database.poolSize': 0,
    'limits.bodyByte': 1,
    'logging.level': 3,
  });
  const found = findings(text);
  assert.deepEqual(
    found.map(({ setting }) => setting),
    [
      'deployment.environment',
      'plaid.clients[0].clientId',
      'plaid.clients[0].secret',
      'database.poolSize',
      'limits.bodyByte',
      'logging.level',
    ],
  );
  const order = found.map(({ line }) => line);
  assert.deepEqual(
    order,
    [...order].sort((a, b) => a - b),
  );
});

test('aliases are refused, also those that would grow without end', () => {
  const bomb = Array.from({ length: 12 }, (_, i) => `x${i}: &a${i} [${`*a${i - 1}, `.repeat(i === 0 ? 0 : 9)}1]`).join(
    '\n',
  );
  const began = performance.now();
  assert.ok(lines(bomb).some((line) => line.includes('aliases are not allowed')));
  assert.ok(performance.now() - began < 2_000);
});

test('a file of any depth or size is answered, soon', () => {
  const began = performance.now();
  for (const text of [
    '['.repeat(100_000),
    '{a: '.repeat(50_000),
    '- '.repeat(60_000),
    'a'.repeat(300_000),
    'x: 1\n'.repeat(50_000),
    '',
  ]) {
    const found = findings(text);
    assert.ok(found.length >= 1 && found.length <= 101);
  }
  assert.ok(performance.now() - began < 20_000, `${performance.now() - began} ms`);
});

/** Whoever writes a secret where it does not belong must not find it in the log of the start as well. */
const CANARY = ['4a7d1ed4', '14474e40', '33ac29cc', 'b8653d'].join('');
const MISPLACED: readonly [name: string, text: string][] = [
  ['for a reference', changed({ 'plaid.clients': [{ name: 'a', clientId: '0'.repeat(24), secret: CANARY }] })],
  ['for a reference, in quotes', GOOD.replace('file:/secrets/admin-token', `"${CANARY}"`)],
  ['for a reference, with a scheme', changed({ 'audit.signingKey': `${CANARY}:x` })],
  ['for a reference, digits only', GOOD.replace('file:/secrets/admin-token', '48294719284719284')],
  ['for a section', changed({ plaid: CANARY })],
  ['for a number', changed({ 'limits.queue': CANARY })],
  ['for a switch', changed({ 'database.embedded': CANARY })],
  ['for a word', changed({ 'logging.level': CANARY })],
  ['for a path', changed({ 'kms.file.path': CANARY })],
  ['for a name', changed({ 'deployment.id': `X${CANARY}` })],
  ['for a host', changed({ 'listeners.gateway.host': CANARY })],
  ['for a CIDR', changed({ 'listeners.gateway.trustedProxies': [CANARY] })],
  ['as a setting', `${CANARY}-${CANARY}: 1\n${GOOD}`],
  ['as a setting in a list', changed({ 'plaid.clients': [{ [`${CANARY}${CANARY}`]: 1 }] })],
  ['in a database URL', changed({ 'database.url': `postgres://me:${CANARY}@host/db` })],
  ['in an upstream', changed({ 'plaid.upstream': `https://me:${CANARY}@host` })],
  ['in a head', changed({ 'audit.heads': [{ url: `https://me:${CANARY}@host` }] })],
  ['in broken YAML', `${GOOD}\nsecret: "${CANARY}\\q\n  x: ${CANARY}: [`],
  ['as a tag', GOOD.replace('id: acme-dev', `id: !${CANARY} x`)],
  ['as an anchor', GOOD.replace('id: acme-dev', `id: &${CANARY} x`)],
  ['as an alias', GOOD.replace('id: acme-dev', `id: *${CANARY}`)],
  ['twice', `${GOOD}  signingKey: ${CANARY}\n`],
];

for (const [name, text] of MISPLACED) {
  test(`a secret ${name} is refused and not repeated`, () => {
    const said = JSON.stringify(findings(text)) + lines(text).join('\n');
    assert.ok(findings(text).length > 0);
    assert.ok(!said.includes(CANARY) && !said.includes('48294719284719284'), said);
  });
}

test('a file that is not there, no file, not UTF-8 or too large is refused by name', () => {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-config-'));
  const start = { env: {}, execArgv: [] };
  try {
    const write = (name: string, bytes: Uint8Array | string): string => {
      writeFileSync(join(folder, name), bytes);
      return join(folder, name);
    };
    for (const [path, why] of [
      [join(folder, 'missing.yaml'), /does not exist/],
      [folder, /is not a file/],
      ['/dev/zero', /is not a file/],
      [write('latin1.yaml', Buffer.from([0x61, 0xff])), /not UTF-8/],
      [write('large.yaml', '#'.repeat(300_000)), /more than 262144 bytes/],
    ] as const) {
      assert.throws(
        () => loadConfig(path, start),
        (error: StrongroomError) => {
          assert.equal(error.code, 'CONFIG_INVALID');
          assert.match(error.message, why);
          return error.message.includes(path);
        },
      );
    }
    assert.equal(loadConfig(write('good.yaml', GOOD), start).deployment.id, 'acme-dev');
    assert.equal(loadConfig(write('bom.yaml', `\ufeff${GOOD}`), start).deployment.id, 'acme-dev');
    assert.throws(
      () => loadConfig(write('bad.yaml', changed({ 'limits.queue': 0, 'logging.level': 'x' })), start),
      (error: StrongroomError) => {
        assert.equal(error.code, 'CONFIG_INVALID');
        assert.equal(error.facts.findings, 2);
        return /bad\.yaml:\d+:\d+ \[limits\.queue\][\s\S]*bad\.yaml:\d+:\d+ \[logging\.level\]/.test(error.message);
      },
    );
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the configuration of dev passes the same checks, on loopback, and its ports follow the base', () => {
  const config = devConfig('/home/me/.strongroom', 7200);
  assert.deepEqual(
    [config.listeners.gateway.port, config.listeners.admin.port, config.plaid.upstream],
    [7200, 7201, 'http://127.0.0.1:7202'],
  );
  assert.deepEqual(
    [config.deployment.environment, config.plaid.environment, config.database.embedded],
    ['development', 'sandbox', true],
  );
  const free = devConfig('/home/me/.strongroom', 0, 'http://127.0.0.1:40123');
  assert.deepEqual([free.listeners.gateway.port, free.listeners.admin.port], [0, 0]);
  assert.throws(() => devConfig('relative', 7100), { code: 'CONFIG_INVALID' });
});

test('of the environment, two variables are read', () => {
  assert.deepEqual(environment({ STRONGROOM_HOME: '/h', STRONGROOM_CONFIG: '/c.yaml' }), {
    home: '/h',
    configPath: '/c.yaml',
  });
  const { home, configPath } = environment({ STRONGROOM_HOME: '' });
  assert.match(home, /^\/.*\.strongroom$/);
  assert.equal(configPath, null);
});

const ajv = new Ajv({ strict: false, allErrors: true });
const validate = ajv.compile(jsonSchema());

test('the JSON Schema accepts what the program accepts', () => {
  for (const text of [GOOD, changed({ limits: { queue: 7 }, logging: {} })]) {
    assert.ok(validate(parse(text)), JSON.stringify(validate.errors));
  }
});

test('the JSON Schema refuses what a schema can know', () => {
  for (const changes of [
    { 'limits.nope': 1 },
    { 'limits.queue': 0 },
    { 'deployment.environment': 'prod' },
    { 'audit.signingKey': 'literal' },
    { 'audit.signingKey': undefined },
    { 'plaid.clients': [] },
  ]) {
    assert.ok(!validate(parse(changed(changes))), JSON.stringify(changes));
  }
});

/** Anything that somebody could write under one of the names that exist. */
const anything = fc.oneof(
  fc.constantFrom(
    'production',
    'sandbox',
    'file:/x',
    'https://x',
    'postgres://h/d',
    '/p',
    '10.0.0.0/8',
    '127.0.0.1',
    'warn',
  ),
  fc.string({ maxLength: 12 }),
  fc.integer({ min: -1, max: 70_000 }),
  fc.boolean(),
  fc.constant(null),
  fc.jsonValue({ maxDepth: 2 }),
);
const names = [
  ...[
    'deployment.id',
    'deployment.environment',
    'plaid.environment',
    'plaid.upstream',
    'plaid.clients',
    'database.url',
  ],
  ...[
    'database.embedded',
    'database.tls',
    'database.logins',
    'kms.provider',
    'kms.file',
    'kms.cache.uses',
    'limits.queue',
  ],
  ...[
    'listeners.gateway.host',
    'listeners.gateway.tls',
    'listeners.admin.socket',
    'audit.heads',
    'endpoints',
    'logging',
  ],
];

test('law: whatever is written, the program answers, and what it accepts the JSON Schema accepts', () => {
  let accepted = 0;
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...names), anything, { minKeys: 1, maxKeys: 3 }), (changes) => {
      const text = changed(changes);
      const { config, findings: found } = checkConfig(text, 'f');
      assert.equal(config === null, found.length > 0);
      if (config === null) return;
      accepted++;
      // An empty section is null in YAML; the program takes it for a section of defaults.
      if (!Object.values(changes).includes(null))
        assert.ok(validate(parse(text)), `${text}\n${JSON.stringify(validate.errors)}`);
    }),
    { numRuns: 500 },
  );
  assert.ok(accepted > 0);
});

test('law: no text makes it throw', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string({ unit: 'binary' }), fc.stringMatching(/^[\s\-:[\]{},&*!|>'"%@`#a-z0-9]{0,60}$/)),
      (text) => {
        assert.ok(findings(text).length > 0);
      },
    ),
    { numRuns: 1_000 },
  );
});
