import assert from 'node:assert/strict';
import { appendFile, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { checkpointText, parseVerifier } from '../../src/audit/checkpoint.ts';
import {
  compareWithExportedHead,
  fileDestination,
  type HeadDestination,
  httpDestination,
  parseHeads,
  readHeads,
  startHeadExport,
} from '../../src/audit/heads.ts';
import { EMPTY_ROOT } from '../../src/audit/tree.ts';
import { OTHER_SIGNER, SIGNER, stepClock } from './memory-log.ts';

const KEY = parseVerifier(SIGNER.vkey) ?? assert.fail('no key');
const root = (fill: number) => Buffer.alloc(32, fill);
const checkpoint = (size: number, signer = SIGNER) => ({
  size,
  root: root(size),
  note: signer.sign(checkpointText({ origin: signer.name, size, root: root(size) })),
});
const unhurried = new AbortController().signal;

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'strongroom-heads-'));
});
after(() => rm(folder, { recursive: true }));

test('heads in a file are read back, and a line that a crash cut spoils only itself', async () => {
  const file = path.join(folder, 'heads.log');
  const destination = fileDestination(file);
  await destination.send(checkpoint(3), 1_700_000_000_000, unhurried);
  await destination.send(checkpoint(5), 1_700_000_010_000, unhurried);
  const whole = (await readFile(file)).length;
  await truncate(file, whole - 20);
  assert.deepEqual(
    (await readHeads(file, [KEY])).heads.map(({ size }) => size),
    [3],
    'the cut line is no head',
  );
  await destination.send(checkpoint(8), 1_700_000_020_000, unhurried);
  const read = await readHeads(file, [KEY]);
  assert.deepEqual(
    read.heads.map(({ size }) => size),
    [3, 8],
  );
  assert.equal(read.unreadable, 1);
  assert.match(await readFile(file, 'utf8'), /^\{"at":"2023-11-14T22:13:20\.000Z","note":"strongroom/);
});

test('of a long file the newest heads are read', async () => {
  const file = path.join(folder, 'long.log');
  const line = `${JSON.stringify({ at: 'x', note: checkpoint(1).note })}\n`;
  await writeFile(file, line.repeat(6000));
  await appendFile(file, `${JSON.stringify({ at: 'x', note: checkpoint(9).note })}\n`);
  const { heads, unreadable } = await readHeads(file, [KEY]);
  assert.equal(heads.at(-1)?.size, 9);
  assert.equal(unreadable, 0);
  assert.ok(heads.length < 6000);
});

test('a note by itself is a head; anything else, or another key, is not', () => {
  assert.equal(parseHeads(checkpoint(4).note, [KEY]).heads[0]?.size, 4);
  assert.equal(parseHeads(checkpoint(4, OTHER_SIGNER).note, [KEY]).unreadable, 1);
  for (const text of ['nonsense', '{}\n', '{"note":5}\n', '{\n', '\n']) {
    assert.deepEqual(parseHeads(text, [KEY]), { heads: [], unreadable: 1 }, JSON.stringify(text));
  }
  assert.deepEqual(parseHeads('', [KEY]), { heads: [], unreadable: 0 });
});

test('a database that was put back to an older state is told apart from another history', async () => {
  const heads = { heads: [3, 8, 5].map((size) => ({ origin: SIGNER.name, size, root: root(size) })), unreadable: 0 };
  const stored = (newest: number, rootOf: (size: number) => Buffer = root) => ({
    newestSize: async () => newest,
    rootAt: async (size: number) => (size <= newest && size !== 7 ? rootOf(size) : null),
  });
  const compare = (given: typeof heads, database: ReturnType<typeof stored>) =>
    compareWithExportedHead(given, SIGNER.name, database);
  assert.deepEqual(await compare(heads, stored(8)), { state: 'consistent', exported: 8, stored: 8 });
  assert.deepEqual(await compare(heads, stored(20)), { state: 'consistent', exported: 8, stored: 20 });
  assert.deepEqual(await compare(heads, stored(7)), { state: 'behind', exported: 8, stored: 7 });
  assert.deepEqual(await compare(heads, stored(0)), { state: 'behind', exported: 8, stored: 0 });
  assert.deepEqual(
    await compare(
      heads,
      stored(9, () => EMPTY_ROOT),
    ),
    { state: 'forked', exported: 8, stored: 9 },
  );
  const missing = { heads: [{ origin: SIGNER.name, size: 7, root: root(7) }], unreadable: 0 };
  assert.equal((await compare(missing, stored(9))).state, 'forked', 'a checkpoint that was signed is gone');
  const foreign = { heads: [{ origin: 'strongroom/other/audit', size: 9, root: root(9) }], unreadable: 2 };
  assert.deepEqual(await compare(foreign, stored(1)), { state: 'no_head', unreadable: 2 });
});

async function listening(answer: (body: string) => number | null): Promise<{ url: string; server: Server }> {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    const status = answer(body);
    if (status === null) return void request.socket.destroy();
    response.writeHead(status, { location: 'http://127.0.0.1:1/' }).end('noise');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/heads?key=secret`, server };
}

test('a head is posted as it is; refusals, redirects and cut connections are failures', async () => {
  const bodies: string[] = [];
  const answers: (number | null)[] = [200, 204, 500, 302, null];
  const { url, server } = await listening((body) => {
    bodies.push(body);
    return answers.shift() as number | null;
  });
  try {
    const destination = httpDestination(url);
    assert.ok(!destination.name.includes('secret'));
    await destination.send(checkpoint(1), 0, unhurried);
    await destination.send(checkpoint(2), 0, unhurried);
    for (let i = 0; i < 3; i++) await assert.rejects(destination.send(checkpoint(3), 0, unhurried));
    assert.deepEqual(
      bodies.slice(0, 3),
      [1, 2, 3].map((size) => checkpoint(size).note),
    );
  } finally {
    server.close();
  }
});

test('every destination gets each new head once; one that fails is tried again and stops no other', async () => {
  let size = 3;
  const sent: Record<string, number[]> = { good: [], bad: [] };
  // The loop's own first attempt, and two of ours.
  let failures = 3;
  const recorded: [number, string][] = [];
  const problems: string[] = [];
  const destination = (name: string, fails: () => boolean): HeadDestination => ({
    name,
    send: async (head) => {
      if (fails()) throw new Error('refused');
      sent[name]?.push(head.size);
    },
  });
  const running = startHeadExport({
    latest: async () => checkpoint(size),
    destinations: [destination('good', () => false), destination('bad', () => failures-- > 0)],
    record: async (...record) => void recorded.push(record),
    clock: stepClock(),
    onProblem: (name) => problems.push(name),
  });
  await running.now();
  await running.now();
  size = 5;
  await running.now();
  await running.now();
  await running.stop();
  assert.deepEqual(sent, { good: [3, 5], bad: [5] });
  assert.deepEqual(problems, ['bad', 'bad', 'bad']);
  assert.deepEqual(recorded.sort(), [
    [3, 'good'],
    [5, 'bad'],
    [5, 'good'],
  ]);
});

test('an export that could not be written down is written down later, not sent again', async () => {
  const sent: number[] = [];
  const recorded: number[] = [];
  let down = true;
  const running = startHeadExport({
    latest: async () => checkpoint(3),
    destinations: [{ name: 'file', send: async ({ size }) => void sent.push(size) }],
    record: async (size) => {
      if (down) throw new Error('database down');
      recorded.push(size);
    },
    clock: stepClock(),
  });
  await running.now();
  down = false;
  await running.stop();
  assert.deepEqual(sent, [3]);
  assert.deepEqual(recorded, [3]);
});

test('an empty log has no head to export', async () => {
  const running = startHeadExport({
    latest: async () => null,
    destinations: [{ name: 'never', send: async () => assert.fail('sent') }],
    record: async () => assert.fail('recorded'),
    clock: stepClock(),
    onProblem: () => assert.fail('a problem'),
  });
  await running.stop();
});
