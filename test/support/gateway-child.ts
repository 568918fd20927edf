/**
 * A gateway in a process of its own, for tests that look at a process from
 * outside: its memory, its death, its log.
 *
 *   gateway-child.ts SETTINGS   a file with {config, connection, log}
 *
 * Prints {"url"} when it listens. On a line `peak` prints {"rss", "peak"} in bytes
 * and begins a new peak. Stops well when its standard input ends.
 */
import { appendFileSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Secret } from '../../src/base/secret.ts';
import type { Config } from '../../src/config.ts';
import { startStrongroom } from '../../src/main.ts';
import { createLog } from '../../src/redaction/logger.ts';
import type { ConnectionOptions } from '../../src/store/connection.ts';

interface Settings {
  readonly config: Config;
  readonly connection: Omit<ConnectionOptions, 'password'> & { readonly password: string };
  readonly log: string;
}

const { config, connection, log } = JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Settings;
const say = (value: unknown) => process.stdout.write(`${JSON.stringify(value)}\n`);

let peak = 0;
const sample = () => {
  peak = Math.max(peak, process.memoryUsage.rss());
};
setInterval(sample, 5).unref();

const running = await startStrongroom({
  config,
  roles: ['gateway'],
  connection: () => ({ ...connection, password: new Secret(connection.password) }),
  log: createLog({ write: (line: string) => appendFileSync(log, line) }),
});
say({ url: running.gatewayUrl });

for await (const line of createInterface({ input: process.stdin })) {
  if (line !== 'peak') continue;
  (globalThis as { gc?: () => void }).gc?.();
  sample();
  say({ rss: process.memoryUsage.rss(), peak });
  peak = process.memoryUsage.rss();
}
await running.stop();
process.exit(0);
