/**
 * `npm run test:canary`: the whole canary run. Whole stories of several
 * applications through real processes with secrets that nobody else has;
 * then a search through every byte that came out:
 * answers, output, logs, every file, every table, the database's own files, what
 * /proc shows. Once on `strongroom dev`, once on `strongroom serve` with Plaid and
 * the database outside. The test of the search itself is test/stories/canary.test.ts.
 */
import { type CanaryGround, canaryGround } from '../support/canary-ground.ts';
import { changes, goodCalls, hostilePlaid, link, malformed, misplaced } from '../support/canary-stories.ts';
import { findServer, startServer } from '../support/server.ts';

const APPLICATIONS = 4;

async function stories(ground: CanaryGround, from: number): Promise<void> {
  const { desk } = await ground.start();
  for (let n = from; n < from + APPLICATIONS; n++) {
    const app = await ground.application(`canary ${n}`);
    const first = await link(desk, app);
    const second = await link(desk, app);
    for (const linked of [first, second]) await goodCalls(desk, app, linked);
    await malformed(desk, app, first);
    await misplaced(desk, app, first, ground.secrets());
    await hostilePlaid(desk, app, first);
    await changes(desk, app, second);
  }
  await ground.cli(['items', 'list', '--json', '@admin']);
  await ground.cli(['apps', 'list', '@admin']);
  ground.snapshot();
}

async function run(name: string, ground: CanaryGround, leastBytes: number): Promise<boolean> {
  const begun = performance.now();
  try {
    await stories(ground, 1);
    const report = await ground.finish();
    const { places, bytes, secrets, findings, missing } = report;
    for (const finding of findings.slice(0, 50)) console.error(`FOUND    ${finding}`);
    for (const place of missing) console.error(`MISSING  ${place}`);
    const seconds = Math.round((performance.now() - begun) / 1000);
    console.log(
      `${name}: ${secrets} secrets, ${places} places, ${bytes} bytes searched in ${seconds} s; ${findings.length} findings`,
    );
    // A search that looked at little, or for little, proves little.
    return findings.length === 0 && missing.length === 0 && secrets > 200 && bytes > leastBytes;
  } finally {
    await ground.close();
  }
}

const server = (await findServer()) ?? (await startServer());
let sound = true;
try {
  // With the database's own files, and without them.
  sound = await run('strongroom dev', await canaryGround(null), 40_000_000);
  sound = (await run('strongroom serve', await canaryGround(server), 3_000_000)) && sound;
} finally {
  await server.stop();
}
console.log(sound ? '2 passed, 0 failed' : 'FAILED');
process.exitCode = sound ? 0 : 1;
