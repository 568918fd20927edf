import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { StrongroomError } from '../../src/base/errors.ts';
import { fileSecrets } from '../../src/secrets/file.ts';
import { readSecret } from '../../src/secrets/read.ts';
import { parseReference, referenceOf } from '../../src/secrets/reference.ts';
import { secretStoreContract } from '../contracts/secret-store.ts';

const folder = mkdtempSync(join(tmpdir(), 'strongroom-secrets-'));
after(() => rmSync(folder, { recursive: true }));
const asRoot = process.geteuid?.() === 0;
const me = process.geteuid?.() ?? 0;

let count = 0;
function kept(text: string | Uint8Array = 'hunter2', mode = 0o600): string {
  const path = join(folder, `secret-${++count}.txt`);
  writeFileSync(path, text, { mode });
  chmodSync(path, mode);
  return path;
}

secretStoreContract('file', async () => ({
  store: fileSecrets(),
  keep: async (bytes) => kept(bytes),
  nowhere: join(folder, 'missing'),
}));

const signal = new AbortController().signal;

async function refused(path: string, why: RegExp, as = me): Promise<void> {
  await assert.rejects(fileSecrets(as).read(path, signal), (error: StrongroomError) => {
    assert.equal(error.code, 'SECRET_UNREADABLE');
    assert.match(error.message, why);
    assert.ok(error.message.includes(path), 'names the file');
    assert.ok(!error.message.includes('hunter2'), 'shows no content');
    return true;
  });
}

for (const mode of [0o640, 0o604, 0o644, 0o660, 0o666, 0o700, 0o777, 0o4600, 0o200]) {
  test(`mode 0${mode.toString(8)} is refused`, () => refused(kept('hunter2', mode), /mode 0\d+|may not be read/));
}

test('mode 0600 and 0400 are read', async () => {
  for (const mode of [0o600, 0o400]) {
    assert.equal((await fileSecrets().read(kept('hunter2', mode), signal)).reveal(), 'hunter2');
  }
});

test('a file of somebody else is refused', async () => {
  const path = kept();
  // Root can give the file away; another user looks at it with other eyes.
  if (asRoot) chownSync(path, 4242, 4242);
  await refused(path, /another user/, asRoot ? me : me + 1);
});

test('a link is refused, also to a good file', async () => {
  const link = join(folder, 'link');
  symlinkSync(kept(), link);
  await refused(link, /symbolic link/);
});

test('a folder, a FIFO and a device are refused, and none of them blocks', async () => {
  const fifo = join(folder, 'fifo');
  execFileSync('mkfifo', ['-m', '600', fifo]);
  await refused(fifo, /regular file/);
  await refused('/dev/zero', /regular file/);
  const inner = join(folder, 'inner');
  mkdirSync(inner, { mode: 0o700 });
  await refused(inner, /regular file/);
});

test('a folder that others can write to is refused', async () => {
  const open = join(folder, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  const path = join(open, 'secret');
  writeFileSync(path, 'hunter2', { mode: 0o600 });
  await refused(path, /folder that other users can write to/);
  chmodSync(open, 0o1777);
  assert.equal((await fileSecrets().read(path, signal)).reveal(), 'hunter2', 'sticky, like /tmp');
});

test('a path through a file is not there', () => refused(join(kept(), 'x'), /does not exist/));

test('a reference is read by its scheme', async () => {
  assert.equal((await readSecret(referenceOf(`file:${kept('abc\n')}`))).reveal(), 'abc');
});

const REFUSED: readonly [text: string, why: RegExp][] = [
  ['hunter2-the-password', /not a reference/],
  ['', /not a reference/],
  ['hunter2:rest', /scheme of this reference is unknown/],
  ['FILE:/x', /not a reference/],
  ['file:relative/path', /absolute/],
  ['file:', /absolute/],
  ['file:///etc/x', /one slash/],
  ['file:/a\0b', /NUL/],
  ['aws-sm://name', /not supported yet/],
  ['vault://kv/x', /not supported yet/],
  ['env:PLAID_SECRET', /scheme of this reference is unknown/],
  [`file:/${'x'.repeat(5000)}`, /at most 4096/],
];

for (const [text, why] of REFUSED) {
  test(`${JSON.stringify(text.slice(0, 24))} is no reference, and is not repeated`, () => {
    const parsed = parseReference(text);
    assert.ok(!parsed.ok);
    assert.match(parsed.says, why);
    assert.throws(
      () => referenceOf(text),
      (error: StrongroomError) => {
        assert.equal(error.code, 'SECRET_REFERENCE_INVALID');
        return !error.message.includes('hunter2') && !error.message.includes('PLAID_SECRET');
      },
    );
  });
}
