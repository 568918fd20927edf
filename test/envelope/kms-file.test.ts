import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { StrongroomError } from '../../src/base/errors.ts';
import { createKekFile, fileKms, kekFileFlaw } from '../../src/envelope/kms-file.ts';
import { kmsContract } from './kms-contract.ts';

const folder = mkdtempSync(join(tmpdir(), 'strongroom-kek-'));
after(() => rmSync(folder, { recursive: true }));

let made = 0;
const freshPath = () => join(folder, `kek-${++made}`);
async function freshFile(): Promise<string> {
  const path = freshPath();
  await createKekFile(path);
  return path;
}

kmsContract('file KEK', async () => {
  const [mine, theirs] = [await freshFile(), await freshFile()];
  return { again: () => fileKms(mine), other: () => fileKms(theirs) };
});

/** Refused with this code, and the sentence says what is wrong with which file. */
async function assertRefused(path: string, code: string, why: RegExp): Promise<void> {
  await assert.rejects(fileKms(path), (error: unknown) => {
    assert.ok(error instanceof StrongroomError);
    assert.equal(error.code, code);
    assert.match(error.message, why);
    assert.ok(error.message.includes(path));
    return true;
  });
}

test('a new key file has 32 bytes, mode 0600 and nothing beside it', async () => {
  const place = mkdtempSync(join(folder, 'new-'));
  const path = join(place, 'kek');
  assert.equal(await createKekFile(path), true);
  const stats = statSync(path);
  assert.deepEqual([stats.size, stats.mode & 0o777], [32, 0o600]);
  assert.deepEqual(readdirSync(place), ['kek']);
});

test('a key file is never replaced, and of many makers at once one makes it', async () => {
  const path = freshPath();
  const makers = await Promise.all(Array.from({ length: 8 }, () => createKekFile(path)));
  assert.deepEqual(makers.filter(Boolean), [true]);
  const before = readFileSync(path);
  assert.equal(await createKekFile(path), false);
  assert.deepEqual(readFileSync(path), before);

  const link = freshPath();
  symlinkSync(join(folder, 'nowhere'), link);
  assert.equal(await createKekFile(link), false, 'a dangling link is left alone too');
  assert.ok(!readdirSync(folder).some((name) => name.startsWith('.kek-')), 'no draft stays behind');
});

test('a missing key file says so', async () => {
  await assertRefused(freshPath(), 'KEK_MISSING', /There is no file/);
});

test('a key file that others could read is refused, mode by mode', async () => {
  for (const mode of [0o640, 0o604, 0o660, 0o644, 0o620, 0o602, 0o610, 0o777]) {
    const path = await freshFile();
    chmodSync(path, mode);
    await assertRefused(path, 'KMS_REFUSED', new RegExp(`has mode 0${mode.toString(8)}`));
  }
  const path = await freshFile();
  chmodSync(path, 0o400);
  assert.match((await fileKms(path)).keyId, /^file:[0-9a-f]{32}$/);
});

test('a key file of another owner is refused', () => {
  const stats = { isFile: () => true, uid: 1000, mode: 0o100600, size: 32 };
  assert.equal(kekFileFlaw(stats, 1000), null);
  assert.match(kekFileFlaw(stats, 1001) ?? '', /belongs to user 1000/);
  assert.match(kekFileFlaw(stats, 0) ?? '', /belongs to user 1000/);
  assert.match(kekFileFlaw({ ...stats, uid: 0 }, 1000) ?? '', /belongs to user 0/);
});

test('a key file of any other length is refused', async () => {
  for (const length of [0, 31, 33, 64, 100_000]) {
    const path = freshPath();
    writeFileSync(path, Buffer.alloc(length, 7), { mode: 0o600 });
    await assertRefused(path, 'KMS_REFUSED', new RegExp(`has ${length} bytes`));
  }
});

test('a symbolic link, a folder and a named pipe are refused, without waiting', async () => {
  const link = freshPath();
  symlinkSync(await freshFile(), link);
  await assertRefused(link, 'KMS_REFUSED', /symbolic link/);
  await assertRefused(mkdtempSync(join(folder, 'dir-')), 'KMS_REFUSED', /not a plain file/);
  const pipe = freshPath();
  execFileSync('mkfifo', ['-m', '600', pipe]);
  await assertRefused(pipe, 'KMS_REFUSED', /not a plain file/);
});

test('the key id says nothing of the key', async () => {
  const path = await freshFile();
  const { keyId } = await fileKms(path);
  const hex = readFileSync(path).toString('hex');
  for (let at = 0; at + 8 <= hex.length; at++) assert.ok(!keyId.includes(hex.slice(at, at + 8)));
});
