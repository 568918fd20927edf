import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect as connectPlain } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import type { SecretReference } from '../../src/secrets/reference.ts';
import { forTheFile } from '../support/database.ts';
import { answersIn, request, talk } from '../support/raw-http.ts';
import { assertRefused } from '../support/refusal.ts';
import { strongroom } from '../support/strongroom.ts';

/** The same limits behind TLS: what is slow or speaks something else is shown the door. */

const REQUEST_MS = 1_000;
const folder = mkdtempSync(join(tmpdir(), 'strongroom-tls-'));
forTheFile.after(async () => rmSync(folder, { recursive: true, force: true }));
const tlsFile = (name: string) => join(import.meta.dirname, '..', 'support', 'tls', name);
const key = join(folder, 'key.pem');
copyFileSync(tlsFile('server.key'), key);
chmodSync(key, 0o600);

const kit = await strongroom(forTheFile, {
  config: {
    listeners: {
      gateway: {
        host: '127.0.0.1',
        port: 0,
        trustedProxies: [],
        tls: { certificate: tlsFile('server.pem'), key: `file:${key}` as SecretReference },
      },
    },
    limits: { requestMs: REQUEST_MS },
  },
});
const app = await kit.application();
const shown = { 'PLAID-CLIENT-ID': app.id, 'PLAID-SECRET': app.key };
const port = Number(new URL(kit.url).port);
const TRUST: ConnectionOptions = {
  host: '127.0.0.1',
  port,
  servername: 'localhost',
  ca: readFileSync(tlsFile('authority.pem')),
};

/** Says the parts over TLS, with a pause between them, and returns all that came back until the other side ended. */
async function said(parts: Iterable<string>, pauseMs = 0, options: ConnectionOptions = {}): Promise<Buffer> {
  const socket: TLSSocket = connect({ ...TRUST, ...options });
  const received: Buffer[] = [];
  const ended = new Promise<void>((resolve) => {
    socket.on('close', () => resolve());
    socket.on('error', () => resolve());
  });
  socket.on('data', (chunk) => received.push(chunk));
  for (const part of parts) {
    if (socket.destroyed) break;
    socket.write(part);
    if (pauseMs > 0) await sleep(pauseMs);
  }
  await ended;
  return Buffer.concat(received);
}

test('a call over TLS works, and so does TLS 1.2', async () => {
  for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
    const call = request('/categories/get', { ...shown, Connection: 'close' }, '{}');
    const [answer] = answersIn(await said([call], 0, { maxVersion }));
    assert.equal(answer?.status, 200, answer?.text);
  }
});

test('older versions of TLS, no TLS and another protocol get no answer', async () => {
  const old = await said(['GET / HTTP/1.1\r\n\r\n'], 0, {
    minVersion: 'TLSv1.1',
    maxVersion: 'TLSv1.1',
    ciphers: 'ALL@SECLEVEL=0',
  });
  assert.equal(old.length, 0);
  for (const greeting of [
    'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    '\x00'.repeat(100),
  ]) {
    const { bytes, closed } = await talk(`http://127.0.0.1:${port}`, greeting, { closing: false });
    assert.ok(closed);
    assert.equal(bytes.includes('HTTP/1.1 200'), false);
  }
});

test('HTTP/2 is not offered', async () => {
  const socket = connect({ ...TRUST, ALPNProtocols: ['h2', 'http/1.1'] });
  await new Promise<void>((resolve) => socket.once('secureConnect', () => resolve()));
  assert.notEqual(socket.alpnProtocol, 'h2');
  socket.destroy();
});

test('who does not greet, does not go on, or sends one byte at a time is let go in time', async () => {
  const body = request('/categories/get', { ...shown, 'Content-Length': '1000' }, '');
  const drip = function* (first: string, then: string) {
    yield first;
    for (let n = 0; n < 40; n++) yield then;
  };
  const started = performance.now();
  const [, headers, trickled] = await Promise.all([
    new Promise<void>((resolve) => {
      const silent = connectPlain(port, '127.0.0.1');
      silent.on('close', () => resolve());
      silent.on('error', () => {});
      silent.resume();
    }),
    said(drip('POST /categories/get HTTP/1.1\r\nHost: x\r\nX: ', 'a'), 100),
    said(drip(body, ' '), 100),
  ]);
  const ms = performance.now() - started;
  assert.ok(ms < REQUEST_MS + 8_000, `after ${Math.round(ms)} ms`);
  for (const bytes of [headers, trickled]) {
    const [answer] = answersIn(bytes);
    if (answer !== undefined) assertRefused(answer, 'BODY_TIMEOUT');
  }
});
