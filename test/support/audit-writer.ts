/**
 * A process of its own that appends audit entries: `audit-writer.ts URL CALLERS`.
 * Says `{"writer"}` when it has started and `{"acknowledged": [counter, mark]}`
 * for every entry that it was told is durable, until its input ends.
 */

import { startAuditWriter } from '../../src/audit/writer.ts';
import { systemClock, systemRandom } from '../../src/base/clock.ts';
import { auditWriterStore } from '../../src/store/audit.ts';
import { parseDatabaseUrl } from '../../src/store/connection.ts';
import { openDatabase } from '../../src/store/sql.ts';

const [url = '', callers = '1'] = process.argv.slice(2);
const address = parseDatabaseUrl(url);
if (address.user === null || address.password === null) throw new Error('the URL names a user and a password');
const database = await openDatabase({
  ...address,
  user: address.user,
  password: address.password,
  role: 'gateway',
  ...(address.host.startsWith('/') ? {} : { tls: 'off' as const }),
});
const writer = await startAuditWriter({
  store: auditWriterStore(database.sql),
  deploymentId: 'test-deployment',
  role: 'gateway',
  random: systemRandom,
  clock: systemClock,
});
const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);
say({ writer: writer.writer });

let mark = 0;
let ending = false;
const loops = Array.from({ length: Number(callers) }, async () => {
  while (!ending) {
    const mine = mark++;
    const { counter } = await writer.append('schema.migrated', { from: mine, to: mine + 1 });
    say({ acknowledged: [counter, mine] });
  }
});
process.stdin.resume().on('end', async () => {
  ending = true;
  await Promise.all(loops);
  await writer.close();
  await database.close();
});
