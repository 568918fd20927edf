import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { findings } from '../scripts/check-packages.ts';

const read = (name: string) => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), 'utf8'));
const manifest = read('package.json');
const lock = read('package-lock.json');

test('the lock file brings nothing that runs a script, lacks a hash, or names an address', () => {
  assert.deepEqual(findings(lock), []);
  assert.ok(Object.keys(lock.packages).length > 20);
});

const HASH = 'sha512-AAAA';
const POISONED: readonly [name: string, locked: object, finding: RegExp][] = [
  ['an install script', { version: '1.0.0', integrity: HASH, hasInstallScript: true }, /install script/],
  ['no hash', { version: '1.0.0' }, /integrity/],
  ['an address', { version: '1.0.0', integrity: HASH, resolved: 'https://evil.example/x.tgz' }, /address/],
];

for (const [name, locked, finding] of POISONED) {
  test(`a package with ${name} is found`, () => {
    const found = findings({
      packages: { '': {}, 'node_modules/good': { integrity: HASH }, 'node_modules/bad': locked },
    });
    assert.equal(found.length, 1);
    assert.match(found[0] as string, finding);
    assert.match(found[0] as string, /bad/);
  });
}

test('every dependency is an exact version, so that nobody gets another one', () => {
  for (const group of ['dependencies', 'devDependencies', 'optionalDependencies']) {
    for (const [name, version] of Object.entries(manifest[group] as Record<string, string>)) {
      assert.match(version, /^(npm:[a-z]+@)?\d+\.\d+\.\d+(-[a-z0-9.]+)?$/, name);
    }
  }
});

test('the number of runtime dependencies is a decision', () => {
  const names = Object.keys(manifest.dependencies);
  assert.deepEqual(names, ['ajv', 'fastify', 'pg', 'pino', 'typebox', 'undici', 'yaml']);
  const model = readFileSync(new URL('../docs/threat-model.md', import.meta.url), 'utf8');
  assert.match(model, /seven direct dependencies/);
});
