import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as rules from './architecture/rules.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

function read(...folders: string[]): Map<string, string> {
  const tree = new Map<string, string>();
  for (const folder of folders) {
    for (const entry of readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/\.(ts|sql)$/.test(entry.name)) continue;
      const path = join(entry.parentPath, entry.name);
      tree.set(relative(ROOT, path).replaceAll('\\', '/'), readFileSync(path, 'utf8'));
    }
  }
  return tree;
}

const product = read('src', 'simulator');
const everything = read('src', 'simulator', 'migrations', 'scripts', 'test', 'bench', 'examples');

/**
 * Every file that touches plaintext, and why it has to. A new line here is a
 * decision, to be made in review.
 */
const REVEALS: Readonly<Record<string, string>> = {
  'src/access/credentials.ts': 'hashes an application key',
  'src/cli/admin-client.ts': 'sends the admin token',
  'src/cli/dev-demo.ts': 'writes the database URL of a home folder for its owner',
  'src/custody/answers.ts': 'looks for the token of the call in its answer',
  'src/custody/authentication.ts': 'checks the shape of an application key',
  'src/custody/forward.ts': 'puts the token into the body that goes to Plaid',
  'src/custody/plaid-clients.ts': 'sees whether the Plaid secret was replaced',
  'src/envelope/envelope.ts': 'seals',
  'src/envelope/macs.ts': 'fingerprints a token',
  'src/http/admin-applications.ts': 'shows a new application key, once',
  'src/main-common.ts': 'hands the signing key to the signer',
  'src/main-gateway.ts': 'hands the private key to the TLS listener',
  'src/plaid/answer.ts': "looks for secrets in Plaid's answers",
  'src/plaid/known-secrets.ts': 'spells the secrets to look for in each encoding',
  'src/plaid/upstream.ts': 'sends the Plaid secret',
  'src/store/connection.ts': 'logs in to the database',
  'src/store/embedded.ts': 'gives the embedded server its first password',
  'src/store/home.ts': 'writes secrets of a home folder, mode 0600',
  'src/store/scram.ts': 'makes a password verifier',
};

type Rule = (tree: rules.Tree) => string[];

/** The rule, the tree it holds for, and a file that breaks it. */
const HELD: readonly [promise: string, rule: Rule, tree: rules.Tree, path: string, text: string][] = [
  [
    'a file imports from its own room or a lower floor',
    rules.floorBreaches,
    product,
    'src/base/x.ts',
    "import { a } from '../store/y.ts';",
  ],
  [
    'rooms of one floor do not know one another',
    rules.floorBreaches,
    product,
    'src/plaid/x.ts',
    "import { a } from '../audit/y.ts';",
  ],
  [
    'Admission crosses a floor as a type only',
    rules.floorBreaches,
    product,
    'src/plaid/x.ts',
    "import { Admission } from '../access/admission.ts';",
  ],
  [
    'nothing else of admission crosses',
    rules.floorBreaches,
    product,
    'src/plaid/x.ts',
    "import type { Admission, Other } from '../access/admission.ts';",
  ],
  [
    'an import inside a function counts too',
    rules.floorBreaches,
    product,
    'src/base/x.ts',
    "const a = async () => import('../store/y.ts');",
  ],
  ['a re-export counts too', rules.floorBreaches, product, 'src/base/x.ts', "export { a } from '../store/y.ts';"],
  ['no door opens into another', rules.floorBreaches, product, 'src/http/x.ts', "import { a } from '../cli/y.ts';"],
  ['a new room needs a floor', rules.floorBreaches, product, 'src/attic/x.ts', "import { a } from '../base/y.ts';"],
  [
    'each package is known in its place only',
    rules.packageBreaches,
    product,
    'src/custody/x.ts',
    "import pg from 'pg';",
  ],
  [
    'cloud SDKs stand in their adapters',
    rules.packageBreaches,
    product,
    'src/envelope/keyring.ts',
    "import { A } from '@aws-sdk/client-kms';",
  ],
  ['a new package needs a place', rules.packageBreaches, product, 'src/http/x.ts', "import x from 'left-pad';"],
  [
    'base and access do no I/O',
    rules.packageBreaches,
    product,
    'src/access/x.ts',
    "import { readFileSync } from 'node:fs';",
  ],
  [
    'the simulator takes only types from us',
    rules.simulatorBreaches,
    product,
    'simulator/x.ts',
    "import { a } from '../src/plaid/y.ts';",
  ],
  [
    'the simulator takes nothing from custody',
    rules.simulatorBreaches,
    product,
    'simulator/x.ts',
    "import type { A } from '../src/custody/y.ts';",
  ],
  [
    'only commands start the simulator',
    rules.simulatorBreaches,
    product,
    'src/http/x.ts',
    "import { a } from '../../simulator/start.ts';",
  ],
  [
    'the environment is read in src/config.ts',
    rules.environmentReaders,
    product,
    'src/http/x.ts',
    'const a = process.env.HOME;',
  ],
  ['also by another spelling', rules.environmentReaders, product, 'src/http/x.ts', "const a = process['env'];"],
  ['also by destructuring', rules.environmentReaders, product, 'src/http/x.ts', 'const { env } = process;'],
  [
    'SQL stands in src/store',
    rules.sqlElsewhere,
    product,
    'src/custody/x.ts',
    'const a = `select id from records where x = 1`;',
  ],
  ['also to write', rules.sqlElsewhere, product, 'src/custody/x.ts', 'const a = "UPDATE records SET x = 1";'],
  [
    'no access token stands in the source',
    rules.tokenLiterals,
    everything,
    'src/x.ts',
    `const a = '${['access', 'sandbox'].join('-')}-12345678-1234-';`,
  ],
  ['no folder without an idea', rules.shapeBreaches, everything, 'src/utils/x.ts', ''],
  ['no barrel', rules.shapeBreaches, everything, 'src/base/index.ts', ''],
  ['no file is longer than a reader bears', rules.longFiles, everything, 'src/x.ts', '\n'.repeat(451)],
  ['no test sleeps', rules.sleepingTests, everything, 'test/x.test.ts', `test.${'skip'}('x', () => {});`],
  [
    'no test sleeps by an option',
    rules.sleepingTests,
    everything,
    'test/x.test.ts',
    `test('x', { ${'skip'}: true }, () => {});`,
  ],
  ['nothing is put off in a comment', rules.putOff, everything, 'src/x.ts', `// ${'TO'}${'DO'}: later`],
];

for (const [promise, rule, tree, path, text] of HELD) {
  test(`${promise}`, () => {
    assert.deepEqual(rule(tree), []);
    // A rule that cannot fail proves nothing.
    assert.equal(rule(new Map([[path, text]])).length, 1, `${path} was let through`);
  });
}

test('files do not form circles', () => {
  assert.deepEqual(rules.cycles(product), []);
  const circle = new Map([
    ['src/base/a.ts', "import { b } from './b.ts';"],
    ['src/base/b.ts', "import { c } from './c.ts';"],
    ['src/base/c.ts', "export * from './a.ts';"],
  ]);
  assert.equal(rules.cycles(circle).length, 1);
});

test('what is allowed is let through', () => {
  const fine = new Map([
    ['src/envelope/x.ts', "import type { Admission } from '../access/admission.ts';"],
    ['src/envelope/y.ts', "import { type Admission } from '../access/admission.ts';"],
    ['src/store/x.ts', "import { a } from '../audit/y.ts';\nconst q = 'select a from b';"],
    ['src/config.ts', "import { a } from './config-rules.ts';\nconst e = process.env.HOME;"],
    ['src/http/x.ts', '// process.env, select a from b\nimport { z } from "../config.ts";'],
    ['simulator/x.ts', "import type { A } from '../src/plaid/y.ts';"],
  ]);
  for (const rule of [
    rules.floorBreaches,
    rules.environmentReaders,
    rules.sqlElsewhere,
    rules.simulatorBreaches,
    rules.packageBreaches,
  ]) {
    assert.deepEqual(rule(fine), []);
  }
});

test('the files that touch plaintext are the ones that are listed', () => {
  assert.deepEqual(rules.revealers(product).sort(), Object.keys(REVEALS).sort());
  assert.deepEqual(rules.revealers(new Map([['src/x.ts', 'secret.reveal()']])), ['src/x.ts']);
});

test('every room has a floor, and every floor its rooms', () => {
  const rooms = new Set([...product.keys()].map(rules.roomOf).filter((room) => room !== null));
  for (const room of rooms) assert.ok(room in rules.FLOORS, room);
});
