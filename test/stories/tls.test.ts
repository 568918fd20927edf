import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { connect } from 'node:tls';
import { strongroom } from '../support/strongroom.ts';

const PEM = join(import.meta.dirname, '..', 'support', 'tls');

test('the gateway speaks TLS 1.2 and newer with its certificate, and nothing else on that port', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-tls-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  // A checkout may be readable by others; a private key must not be.
  copyFileSync(join(PEM, 'server.key'), join(folder, 'server.key'));
  chmodSync(join(folder, 'server.key'), 0o600);
  const tls = { certificate: join(PEM, 'server.pem'), key: `file:${join(folder, 'server.key')}` };
  const kit = await strongroom(t, {
    config: { listeners: { gateway: { host: '127.0.0.1', port: 0, trustedProxies: [], tls } as never } },
  });
  assert.match(kit.url, /^https:/);
  const { port } = new URL(kit.url);
  const ca = readFileSync(join(PEM, 'authority.pem'));
  const app = await kit.application();

  const status = await new Promise<number | undefined>((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'plaid-client-id': app.id, 'plaid-secret': app.key };
    request({ host: 'localhost', port, path: '/institutions/get', method: 'POST', headers, ca }, (answer) => {
      answer.resume().on('end', () => resolve(answer.statusCode));
    })
      .on('error', reject)
      .end('{"count":1,"offset":0,"country_codes":["US"]}');
  });
  assert.equal(status, 200);

  const handshake = (options: object) =>
    new Promise<string>((resolve) => {
      const socket = connect({ host: 'localhost', port: Number(port), ca, ...options }, () => {
        resolve(socket.getProtocol() ?? 'none');
        socket.destroy();
      });
      socket.on('error', () => resolve('refused'));
    });
  assert.equal(await handshake({}), 'TLSv1.3');
  assert.equal(await handshake({ maxVersion: 'TLSv1.2' }), 'TLSv1.2');
  const old = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' };
  assert.equal(await handshake(old), 'refused');
  await assert.rejects(fetch(`http://localhost:${port}/healthz`), 'plain HTTP gets no answer');
});
