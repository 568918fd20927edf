/**
 * `npm run test:kill`: kill -9 at random moments, many times.
 *
 *   bin/node24 test/suites/kill.ts [--rounds N] [--seed S] [--on serve|dev]
 *
 * Groups of five rounds, each with a fresh installation and its own seed; every
 * fifth group kills the whole of `strongroom dev`, the others the gateway process
 * alone. `--on` takes one kind for all. What fails prints how to see it again.
 */
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { devInstallation, serveInstallation } from '../support/installation.ts';
import { killRounds, type Report } from '../support/kill.ts';
import { findServer, startServer } from '../support/server.ts';

const GROUP = 5;

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '50' }, seed: { type: 'string' }, on: { type: 'string' } },
});
const rounds = Number(values.rounds);
const seed = values.seed ?? randomBytes(4).toString('hex');
if (!(Number.isInteger(rounds) && rounds > 0) || !['serve', 'dev', undefined].includes(values.on)) {
  console.error('usage: kill.ts [--rounds N] [--seed S] [--on serve|dev]');
  process.exit(2);
}
console.log(`${rounds} kill rounds, seed ${seed}`);

const begun = performance.now();
const server = (await findServer()) ?? (await startServer());
const total: Partial<Record<keyof Report, number>> = {};
let failed = false;
try {
  for (let group = 0; group * GROUP < rounds && !failed; group++) {
    const on = values.on ?? (group % 5 === 4 ? 'dev' : 'serve');
    const own = group === 0 ? seed : `${seed}.${group}`;
    const installation = on === 'dev' ? devInstallation() : await serveInstallation(server);
    const mine = Math.min(GROUP, rounds - group * GROUP);
    try {
      const onRound = (line: string) => console.log(line);
      const report = await killRounds({ installation, seed: own, rounds: mine, patient: true, onRound });
      for (const [name, count] of Object.entries(report)) {
        total[name as keyof Report] = (total[name as keyof Report] ?? 0) + count;
      }
    } catch (error) {
      failed = true;
      console.error(error);
      console.error(`again: bin/node24 test/suites/kill.ts --rounds ${mine} --seed ${own} --on ${on}`);
    } finally {
      await installation.close();
    }
  }
} finally {
  await server.stop();
}
console.log(
  `${failed ? 'FAILED' : 'passed'} after ${Math.round((performance.now() - begun) / 1000)} s: ${JSON.stringify(total)}`,
);
process.exitCode = failed ? 1 : 0;
