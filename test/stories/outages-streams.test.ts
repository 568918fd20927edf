import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { http, rawServer } from '../plaid/raw-server.ts';
import { forTheFile } from '../support/database.ts';
import { gatewayProcess } from '../support/gateway-process.ts';
import { answersIn, request, talk } from '../support/raw-http.ts';
import { assertRefused } from '../support/refusal.ts';
import { strongroom } from '../support/strongroom.ts';

/**
 * Answers that are too large to hold, in every way in which they can be dropped.
 * None may end the process, hold a connection to Plaid for ever, or fill memory.
 */

const MIB = 1024 * 1024;
const UPSTREAM_MS = 1_000;
const TOKEN = ['access', 'sandbox', '0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0'].join('-');

const plan: ((socket: Socket) => void)[] = [];
const open = new Set<Socket>();
const plaid = await rawServer((socket, asked) => {
  open.add(socket);
  socket.on('close', () => open.delete(socket));
  const planned = plan.shift();
  if (planned !== undefined) return planned(socket);
  const exchange = asked.startsWith('POST /item/public_token/exchange');
  const body = exchange ? { access_token: TOKEN, item_id: 'one' } : { mark: 'good' };
  socket.write(http(200, JSON.stringify(body)));
});
forTheFile.after(() => plaid.close());

const kit = await strongroom(forTheFile, { roles: ['worker', 'admin'] });
const gateway = await gatewayProcess(forTheFile, kit, {
  upstream: plaid.origin,
  limits: { upstreamMs: UPSTREAM_MS, answerBytes: 64 * MIB, bufferedAnswerBytes: 256 * 1024 },
});
const app = gateway.app(await kit.application());
const exchanged = await app.post('/item/public_token/exchange', { public_token: 'public-sandbox-1' });
const handle = String(exchanged.body.access_token);
const shown = { 'PLAID-CLIENT-ID': app.id, 'PLAID-SECRET': app.key };
const asking = (path = '/accounts/get', body: object = { access_token: handle }) =>
  request(path, shown, JSON.stringify(body));

const PIECE = Buffer.alloc(64 * 1024, ' ');
const head = (status: number, bytes: number, headers = '') =>
  `HTTP/1.1 ${status} Said\r\nContent-Type: application/json\r\nContent-Length: ${bytes}\r\n${headers}\r\n`;

/** So many bytes of spaces in braces, as fast as they are taken. */
function pour(socket: Socket, bytes: number): void {
  socket.write('{');
  let left = bytes - 2;
  const more = () => {
    while (left > 0 && !socket.destroyed) {
      const piece = PIECE.subarray(0, Math.min(left, PIECE.length));
      left -= piece.length;
      if (!socket.write(piece)) return void socket.once('drain', more);
    }
    if (!socket.destroyed) socket.write('}');
  };
  more();
}

const large =
  (bytes: number, status = 200, headers = '') =>
  (socket: Socket) => {
    socket.write(head(status, bytes, headers));
    pour(socket, bytes);
  };
/** The head of a large answer and its beginning, and then nothing any more. */
const stalled =
  (bytes: number, status = 200, headers = '') =>
  (socket: Socket) => {
    stuck.add(socket);
    socket.on('close', () => stuck.delete(socket));
    socket.write(head(status, bytes, headers));
    socket.write('{');
  };
/** Connections on which Plaid would wait for ever. */
const stuck = new Set<Socket>();

async function served(): Promise<void> {
  const answer = await app.post('/accounts/get', { access_token: handle });
  assert.deepEqual([answer.status, answer.text], [200, '{"mark":"good"}'], answer.text);
}

/** Longer than any time limit of the call: whatever a forgotten answer would do, it has done by then. */
async function afterTheLimits(): Promise<void> {
  await sleep(UPSTREAM_MS + 1_000);
  assert.ok(gateway.alive(), `the process ended: ${gateway.log().slice(-1_000)}`);
  await served();
}

async function until(holds: () => boolean, what: string): Promise<void> {
  for (let n = 0; n < 1_000; n++) {
    if (holds()) return;
    await sleep(10);
  }
  assert.fail(what);
}

test('a large answer arrives as it was sent, without being held', async () => {
  plan.push(large(48 * MIB));
  let length = 0;
  const grown = await gateway.growth(async () => {
    const answer = await app.post('/accounts/get', { access_token: handle });
    assert.equal(answer.status, 200);
    length = answer.text.length;
  });
  assert.equal(length, 48 * MIB);
  assert.ok(grown < 64 * MIB, `grew by ${Math.round(grown / MIB)} MB`);
});

test('an answer beyond limits.answerBytes is refused when it says so, and cut when it does not', async () => {
  plan.push(large(65 * MIB));
  assertRefused(await app.post('/accounts/get', { access_token: handle }), 'UPSTREAM_BROKEN');
  plan.push((socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n');
    const chunk = Buffer.concat([Buffer.from('10000\r\n'), PIECE, Buffer.from('\r\n')]);
    socket.write('1\r\n{\r\n');
    const more = () => {
      while (!socket.destroyed) if (!socket.write(chunk)) return void socket.once('drain', more);
    };
    more();
  });
  const grown = await gateway.growth(async () => {
    const { answers } = await talk(gateway.url, asking(), { closing: false });
    assert.equal(answers[0]?.whole, false, 'the application sees that it was cut');
  });
  assert.ok(grown < 64 * MIB, `grew by ${Math.round(grown / MIB)} MB`);
  await until(() => open.size <= 1, 'the connection to Plaid is ended too');
});

test('an answer that breaks off in the middle is cut for the application too', async () => {
  plan.push((socket) => {
    socket.write(head(200, 2 * MIB));
    socket.write('{');
    for (let n = 0; n < 16; n++) socket.write(PIECE);
    socket.end();
  });
  const { answers } = await talk(gateway.url, asking(), { closing: false });
  assert.deepEqual([answers[0]?.status, answers[0]?.whole], [200, false]);
  await served();
});

test('a caller that does not read holds nothing but its connection', async () => {
  plan.push(large(48 * MIB));
  const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1');
  socket.pause();
  socket.on('error', () => {});
  const grown = await gateway.growth(async () => {
    socket.write(asking());
    await until(() => open.size > 0, 'Plaid is asked');
    await afterTheLimits();
  });
  assert.ok(grown < 64 * MIB, `grew by ${Math.round(grown / MIB)} MB`);
  await until(() => open.size <= 1, 'Plaid is let go when the time for its answer is over');
  socket.destroy();
});

/** Every way in which a large answer is dropped without having been read. */
const DROPPED: readonly (readonly [name: string, drop: () => Promise<void>])[] = [
  [
    'a caller that leaves before the answer comes',
    async () => {
      let go: () => void = () => {};
      plan.push((socket) => {
        go = () => stalled(2 * MIB)(socket);
      });
      const before = plaid.requests.length;
      const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1');
      socket.write(asking());
      await until(() => plaid.requests.length > before, 'Plaid is asked');
      socket.destroy();
      await sleep(100); // so that the gateway has seen it leave
      go();
    },
  ],
  [
    'a caller that leaves in the middle',
    async () => {
      plan.push(large(48 * MIB));
      const socket = connect(Number(new URL(gateway.url).port), '127.0.0.1');
      socket.write(asking());
      await new Promise((resolve) => socket.once('data', resolve));
      socket.resetAndDestroy();
    },
  ],
  [
    'a secret in a header of a large answer',
    async () => {
      plan.push(stalled(2 * MIB, 200, `Plaid-Request-ID: ${TOKEN}\r\n`));
      assertRefused(await app.post('/accounts/get', { access_token: handle }), 'UPSTREAM_LEAK');
    },
  ],
  [
    'a large answer where tokens have to be replaced',
    async () => {
      plan.push(stalled(2 * MIB));
      assertRefused(await app.post('/user/create', { client_user_id: 'one' }), 'UPSTREAM_BROKEN');
    },
  ],
  [
    'a large answer to an exchange',
    async () => {
      plan.push(stalled(2 * MIB), stalled(2 * MIB));
      const answer = await app.post('/item/public_token/exchange', { public_token: 'public-sandbox-2' });
      assertRefused(answer, 'EXCHANGE_UNCERTAIN');
      plan.length = 0;
    },
  ],
  [
    'a large error to a removal',
    async () => {
      const { body } = await app.post('/item/public_token/exchange', { public_token: 'public-sandbox-1' });
      plan.push(stalled(2 * MIB, 500));
      assertRefused(await app.post('/item/remove', { access_token: body.access_token }), 'REMOVAL_UNCERTAIN');
    },
  ],
];

for (const [name, drop] of DROPPED) {
  test(`${name} is dropped, and Plaid is let go`, async () => {
    await drop();
    const started = performance.now();
    await until(() => stuck.size === 0 && open.size <= 1, 'no connection to Plaid is left hanging');
    assert.ok(
      performance.now() - started < UPSTREAM_MS - 300,
      'let go at once, not when the time for the call is over',
    );
  });
}

test('none of them ends the process, however late', async () => {
  await sleep(UPSTREAM_MS + 1_000);
  assert.ok(gateway.alive(), `the process ended: ${gateway.log().slice(-1_000)}`);
  assert.equal((await app.post('/categories/get', {})).status, 200);
  const log = gateway.log().split('\n');
  assert.deepEqual(
    log.filter((line) => line.includes('INTERNAL')),
    [],
    'a caller that leaves is no mistake of ours',
  );
});

test('an error of many megabytes is no error of Plaid', async () => {
  plan.push(large(2 * MIB, 500));
  const { bytes } = await talk(gateway.url, asking('/categories/get', {}), { closing: true });
  const [answer] = answersIn(bytes);
  assert.ok(answer !== undefined);
  assertRefused(answer, 'UPSTREAM_BROKEN');
});
