import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { stale } from '../scripts/generate.ts';
import { checkConfig, describeFinding } from '../src/config.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

const documents = [
  ...readdirSync(ROOT).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];

test('what is made from code is what the code says', () => {
  assert.deepEqual(stale(), []);
});

test('the example configuration is valid, and stays so', () => {
  assert.deepEqual(
    checkConfig(read('examples/strongroom.yaml'), 'examples/strongroom.yaml').findings.map(describeFinding),
    [],
  );
});

test('links between documents lead somewhere', () => {
  const broken: string[] = [];
  let followed = 0;
  for (const document of documents) {
    const text = read(document).replace(/```[\s\S]*?```/g, '');
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      followed++;
      const [path = '', anchor] = target.split('#');
      const file = path === '' ? join(ROOT, document) : resolve(ROOT, dirname(document), path);
      if (!existsSync(file)) broken.push(`${document}: ${target}`);
      else if (anchor !== undefined && file.endsWith('.md') && !anchors(file).has(anchor))
        broken.push(`${document}: ${target}`);
    }
  }
  assert.ok(followed > 10);
  assert.deepEqual(broken, []);
});

/** The anchors that a heading or an explicit id gives, as the usual renderers name them. */
function anchors(file: string): Set<string> {
  const text = readFileSync(file, 'utf8');
  const headings = [...text.matchAll(/^#+ +(.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s-]/gu, '')
      .trim()
      .replace(/\s/g, '-'),
  );
  return new Set([...headings, ...[...text.matchAll(/<a id="([^"]+)"/g)].map(([, id = '']) => id)]);
}

const rows = [...read('docs/threat-model.md').matchAll(/^\| (T\d+) \|(.*)\|(.*)\|(.*)\|$/gm)].map(
  ([, number = '', attack = '', met = '', proof = '']) => ({ number, attack, met, proof }),
);

test('the threat model has one row for each of T1 to T27', () => {
  assert.deepEqual(
    rows.map(({ number }) => number),
    Array.from({ length: 27 }, (_, index) => `T${index + 1}`),
  );
});

for (const { number, met, proof } of rows) {
  test(`${number} names tests that exist, or says that it is open`, () => {
    const named = [...proof.matchAll(/`(test\/[^`]+)`/g)].map(([, path = '']) => path);
    for (const path of named) assert.ok(existsSync(join(ROOT, path)), path);
    assert.ok(named.length > 0 || /\bopen\b/.test(proof), proof);
    assert.notEqual(met.trim(), '');
  });
}

test('every test that a document names exists', () => {
  const missing = documents.flatMap((document) =>
    [...read(document).matchAll(/`(test\/[\w./-]+\.ts)`/g)]
      .filter(([, path = '']) => !existsSync(join(ROOT, path)))
      .map(([, path]) => `${document}: ${path}`),
  );
  assert.deepEqual(missing, []);
});

test('documents speak of the project only', () => {
  for (const document of documents) {
    assert.ok(!/\/work\/|\/tmp\/plan|\bmemo\b/.test(read(document)), relative(ROOT, document));
  }
});
