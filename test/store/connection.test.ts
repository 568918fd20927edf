import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after, test } from 'node:test';
import tls from 'node:tls';
import { codeOf, StrongroomError } from '../../src/base/errors.ts';
import type { ConnectionOptions } from '../../src/store/connection.ts';
import { parseDatabaseUrl } from '../../src/store/connection.ts';
import { openDatabase } from '../../src/store/sql.ts';
import { testDatabase } from '../support/database.ts';

const PEM = (name: string) => readFileSync(path.join(import.meta.dirname, '..', 'support', 'tls', name), 'utf8');

test('every way to write an address is understood', () => {
  const read = (text: string) => {
    const { password, ...rest } = parseDatabaseUrl(text);
    return { ...rest, password: password?.reveal() ?? null };
  };
  const plain = { host: 'db.example', port: 5432, database: 'vault', user: null, password: null };
  assert.deepEqual(read('postgresql://db.example/vault'), plain);
  assert.deepEqual(read('postgres://db.example:6000/vault'), { ...plain, port: 6000 });
  assert.deepEqual(read('postgresql://[2001:db8::1]:6000/vault'), { ...plain, host: '2001:db8::1', port: 6000 });
  assert.deepEqual(read('postgresql://me@db.example/vault'), { ...plain, user: 'me' });
  assert.deepEqual(read('postgresql://me:p%40%2Fw@/vault?host=/run/pg&port=5433'), {
    host: '/run/pg',
    port: 5433,
    database: 'vault',
    user: 'me',
    password: 'p@/w',
  });
  assert.deepEqual(read('postgresql://%2Frun%2Fpg/vault'), { ...plain, host: '/run/pg' });
});

test('an address that is not understood is refused without being quoted', () => {
  const wrong = [
    'mysql://db/vault',
    'db.example/vault',
    'postgresql://db.example',
    'postgresql:///vault',
    'postgresql://db.example:0/vault',
    'postgresql://db.example:70000/vault',
    'postgresql://db.example/vault?sslmode=disable',
    'postgresql://me:canary%zz@db.example/vault',
    'postgresql://me:canary@db.example/vault#x',
  ];
  for (const text of wrong) {
    assert.throws(
      () => parseDatabaseUrl(text),
      (error) =>
        error instanceof StrongroomError && error.code === 'CONFIG_INVALID' && !error.message.includes('canary'),
      text,
    );
  }
});

test('TLS can be off for this machine only', async () => {
  const { password } = (await testDatabase()).connection('gateway');
  const options = { database: 'x', user: 'x', password, port: 1, tls: 'off', role: 'gateway' } as const;
  for (const host of ['db.example', '10.0.0.1', '127.0.0.1.example', 'localhost.example', '::2']) {
    await assert.rejects(openDatabase({ ...options, host }), (error) => codeOf(error) === 'DATABASE_UNFIT', host);
  }
  for (const host of ['127.0.0.1', 'localhost', '::1']) {
    await assert.rejects(openDatabase({ ...options, host }), (error) => codeOf(error) === 'DATABASE_UNAVAILABLE', host);
  }
});

/** A TLS front on loopback for a database, as a server with that certificate would be. */
async function behindTls(target: ConnectionOptions, certificate: string): Promise<ConnectionOptions> {
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (request) => {
      // SSLRequest, PostgreSQL manual section 55.7.
      if (request.length !== 8 || request.readUInt32BE(4) !== 80877103) return socket.destroy();
      socket.write('S');
      const secure = new tls.TLSSocket(socket, { isServer: true, cert: PEM(certificate), key: PEM('server.key') });
      const { host, port } = target;
      const upstream = host.startsWith('/') ? net.connect(`${host}/.s.PGSQL.${port}`) : net.connect(port ?? 5432, host);
      for (const side of [secure, upstream]) side.on('error', () => {});
      secure.pipe(upstream).pipe(secure);
      return undefined;
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  after(() => server.close());
  const { tls: _, ...rest } = target;
  return { ...rest, host: '127.0.0.1', port: (server.address() as net.AddressInfo).port };
}

test('a server is trusted by its certificate and its name, and by nothing less', async () => {
  const target = (await testDatabase()).connection('gateway');
  const right = await behindTls(target, 'server.pem');
  const wrongName = await behindTls(target, 'elsewhere.pem');
  const authorities = PEM('authority.pem');

  for (const host of ['127.0.0.1', 'localhost']) {
    const database = await openDatabase({ ...right, host, tls: { authorities }, role: 'gateway' });
    assert.equal((await database.sql.query('select 1')).rowCount, 1);
    await database.close();
  }
  const refused: [ConnectionOptions, RegExp][] = [
    [right, /SELF_SIGNED|UNABLE_TO_GET_ISSUER|UNABLE_TO_VERIFY/],
    [{ ...wrongName, tls: { authorities } }, /ALTNAME/],
  ];
  for (const [options, reason] of refused) {
    await assert.rejects(openDatabase({ ...options, role: 'gateway' }), (error) => {
      assert.ok(error instanceof StrongroomError && error.code === 'DATABASE_UNAVAILABLE');
      assert.match(String(error.facts.reason), reason);
      return true;
    });
  }
});

test('a server that offers no TLS is not talked to over a network', async () => {
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.write('N'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  after(() => server.close());
  const { tls: _, ...target } = (await testDatabase()).connection('gateway');
  const port = (server.address() as net.AddressInfo).port;
  await assert.rejects(
    openDatabase({ ...target, host: '127.0.0.1', port, role: 'gateway' }),
    (error) => error instanceof StrongroomError && /does not support SSL/.test(String(error.facts.reason)),
  );
});
