import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { FINDING_CODES } from '../../src/audit/findings.ts';
import { KINDS, TYPES } from '../../src/audit/kinds.ts';

const DOCS = readFileSync(new URL('../../docs/formats/audit.md', import.meta.url), 'utf8');

/** The rows of the table between two marks, without its head. */
function table(name: string): string[] {
  const body = DOCS.split(`<!-- ${name} -->\n`)[1]?.split(`\n<!-- /${name} -->`)[0] ?? assert.fail(`no table ${name}`);
  return body.split('\n').slice(2);
}

test('the docs name every kind of entry with its fields, in order, and no other', () => {
  const fieldsOf = (fields: Readonly<Record<string, string>>) =>
    Object.entries(fields)
      .map(([name, type]) => `\`${name}\` ${type}`)
      .join(', ');
  const rows = Object.entries(KINDS).map(
    ([kind, { says, fields }]) => `| \`${kind}\` | ${fieldsOf(fields)} | ${says} |`,
  );
  assert.deepEqual(table('kinds'), rows);
});

test('the docs describe every type of field', () => {
  const rows = Object.entries(TYPES).map(
    ([type, { says, of, max }]) => `| ${type} | ${says} | ${of === 'string' ? max : '-'} |`,
  );
  assert.deepEqual(table('types'), rows);
});

test('the docs list every finding of the verifier', () => {
  const rows = Object.entries(FINDING_CODES).map(([code, says]) => `| \`${code}\` | ${says} |`);
  assert.deepEqual(table('findings'), rows);
});

test('the examples in the docs are the frozen vectors', () => {
  const read = (name: string) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), 'utf8'));
  assert.ok(DOCS.includes(`\n${read('audit-entries').vectors[0].entry}\n`));
  const { vkey, vectors } = read('audit-checkpoints');
  assert.ok(DOCS.includes(`\`${vkey}\``));
  assert.ok(DOCS.includes(`\n${vectors[3].note}`));
});
