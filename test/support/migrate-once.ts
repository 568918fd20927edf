/** A program for tests that need migrators in several processes: `migrate-once.ts FOLDER`, the owner's URL on standard input. */
import { text } from 'node:stream/consumers';
import { Secret } from '../../src/base/secret.ts';
import { parseDatabaseUrl } from '../../src/store/connection.ts';
import { migrate } from '../../src/store/migrate.ts';

process.stdout.write('"ready"\n');
const { user, password, ...address } = parseDatabaseUrl((await text(process.stdin)).trim());
const plain = ['localhost', '127.0.0.1', '::1'].includes(address.host);
try {
  const { applied, version } = await migrate(
    { ...address, user: user ?? '', password: password ?? new Secret(''), ...(plain ? { tls: 'off' } : {}) },
    process.argv[2],
  );
  process.stdout.write(`${JSON.stringify({ applied: applied.map(({ number }) => number), version })}\n`);
} catch (error) {
  process.stdout.write(`${JSON.stringify({ failed: (error as Error).message })}\n`);
}
