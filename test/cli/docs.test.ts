import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { cliDocument } from '../../scripts/cli-docs.ts';
import { ERRORS } from '../../src/base/errors.ts';
import { EXIT } from '../../src/cli/command.ts';
import { COMMANDS } from '../../src/cli/commands.ts';
import { run } from '../../src/cli/main.ts';

const ROOT = new URL('../../', import.meta.url);
const NAMES = new Set(COMMANDS.map(({ name }) => name));
/** The first words of commands that have two. */
const GROUPS = new Set([...NAMES].filter((name) => name.includes(' ')).map((name) => name.split(' ')[0] as string));

test('docs/cli.md is what the commands say', () => {
  assert.equal(readFileSync(new URL('docs/cli.md', ROOT), 'utf8'), cliDocument(), 'run npm run generate');
});

for (const { name, summary, usage } of COMMANDS) {
  test(`strongroom ${name}: --help prints its usage, and an unknown option is a usage error`, async () => {
    assert.match(summary, /^[A-Z].{10,100}\.$/);
    const help = await said(...name.split(' '), '--help');
    assert.deepEqual(help, { code: EXIT.ok, stdout: `${usage.trimEnd()}\n`, stderr: '' });
    assert.ok(usage.startsWith(`usage: strongroom ${name}`), usage);
    for (const line of usage.split('\n')) assert.ok(line.length <= 110, line);
    const wrong = await said(...name.split(' '), '--no-such-option');
    assert.deepEqual([wrong.code, wrong.stdout], [EXIT.usage, ''], wrong.stderr);
    assert.match(wrong.stderr, new RegExp(`See strongroom ${name} --help`));
  });
}

test('every command that the docs and the errors name is there', () => {
  const texts = new Map(
    ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', ...globSync('docs/**/*.md', { cwd: ROOT.pathname })].map((path) => [
      path,
      readFileSync(new URL(path, ROOT), 'utf8'),
    ]),
  );
  for (const [code, { remedy, says }] of Object.entries(ERRORS)) texts.set(code, `${says} ${remedy}`);
  let found = 0;
  for (const [where, text] of texts) {
    for (const [, first = '', second = ''] of text.matchAll(
      /(?:`|^ *|^ *bin\/)strongroom ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?/gm,
    )) {
      found++;
      const named = GROUPS.has(first) ? (second === '' ? first : `${first} ${second}`) : first;
      assert.ok(NAMES.has(named) || GROUPS.has(named), `${where}: strongroom ${named}`);
    }
  }
  assert.ok(found > 20, `${found} mentions`);
});

async function said(...argv: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const [out, err]: [Buffer[], Buffer[]] = [[], []];
  const into = (chunks: Buffer[]) => new PassThrough().on('data', (chunk: Buffer) => chunks.push(chunk));
  const code = await run(argv, { stdin: new PassThrough(), stdout: into(out), stderr: into(err) });
  return { code, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() };
}
