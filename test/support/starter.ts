/**
 * A program for tests that need another process to hold an embedded server:
 *
 *   starter.ts HOME [write]   prints {"pid", "server", "url"}; with `write`, then
 *                             the number of every row whose insert was answered
 *
 * Runs until it is killed, or until its standard input ends: then it stops well.
 */
import { startEmbedded } from '../../src/store/embedded.ts';
import { openDatabase } from '../../src/store/sql.ts';

const [home = '', write] = process.argv.slice(2);
const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);

try {
  const server = await startEmbedded({ home });
  say({ pid: process.pid, server: server.pid, url: server.url.reveal() });
  process.stdin.on('end', () => server.stop().then(() => process.exit(0)));
  process.stdin.resume();
  if (write === 'write') {
    const { sql } = await openDatabase({ ...server.connection('owner'), role: 'owner' });
    await sql.query('create schema if not exists strongroom');
    await sql.query('create table if not exists acknowledged (n integer)');
    for (let n = 1; ; n++) {
      await sql.query('insert into acknowledged values ($1)', [n]);
      say(n);
    }
  }
} catch (error) {
  const { code, message } = error as { code?: string; message?: string };
  say({ code, message });
  process.exit(3);
}
