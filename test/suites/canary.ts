/**
 * `npm run test:canary`: the whole canary run. Whole stories of several
 * applications, of strangers, of an operator who makes mistakes and of a hostile
 * Plaid, through real processes that are stopped, killed and started again; then
 * a search for every secret in every byte that came out: answers, output, logs,
 * every file, every table, the database's own files, what /proc shows. Once on
 * `strongroom dev`, once on `strongroom serve` with Plaid and the database outside.
 *
 *   bin/node24 test/suites/canary.ts [--applications N]
 *
 * The test of the search itself is test/stories/canary.test.ts.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type CanaryGround, canaryGround } from '../support/canary-ground.ts';
import { rightCommands, wrongAdminCalls, wrongCommands } from '../support/canary-operator.ts';
import {
  type App,
  changes,
  Desk,
  goodCalls,
  hostilePlaid,
  type Linked,
  link,
  malformed,
  misplaced,
} from '../support/canary-stories.ts';
import { wholeTable } from '../support/canary-table.ts';
import { startProgram } from '../support/program.ts';
import { findServer, startServer } from '../support/server.ts';

const { values } = parseArgs({ options: { applications: { type: 'string', default: '3' } } });
const applications = Number(values.applications);

async function stories(ground: CanaryGround): Promise<void> {
  const { desk } = await ground.start();
  const held: { app: App; linked: Linked }[] = [];
  for (let n = 1; n <= applications; n++) {
    const app = await ground.application(`canary ${n}`);
    const linked = await link(desk, app);
    held.push({ app, linked });
    await goodCalls(desk, app, linked);
    await malformed(desk, app, linked);
    await misplaced(desk, app, linked, ground.secrets());
    await hostilePlaid(desk, app, linked);
    await changes(desk, app, linked);
  }
  const table = await ground.application('whole table');
  const called = await wholeTable(desk, table);
  console.log(`  ${called} endpoints with planted tokens`);

  // What is kept over a stop and over a kill is searched too, and what a start prints.
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const { desk: next } = await ground.restart(signal);
    for (const { app, linked } of held) await next.good(app, '/accounts/get', { access_token: linked.handle });
  }
  const { desk: last } = ground.running();
  await wrongAdminCalls(ground, last);
  await wrongCommands(ground, last);
  await rightCommands(ground, table);
  await simulatorAlone(ground);
}

/** `strongroom simulate` prints the secret that it is called with, and writes its tokens into one file. */
async function simulatorAlone(ground: CanaryGround): Promise<void> {
  const { canaries, folder } = ground;
  const [stateFile, tokenFile] = [join(folder, 'simulated.json'), join(folder, 'control-token.txt')];
  const program = startProgram(
    ['simulate', '--port', '0', '--json', '--state', stateFile, '--control-token-file', tokenFile],
    { cwd: folder },
  );
  const [line] = await program.said(/^\{.*\}$/m);
  const { url, clientId, secret } = JSON.parse(line) as { url: string; clientId: string; secret: string };
  canaries.secret('vaulted: Plaid secret', secret);
  canaries.secret('control token', readFileSync(tokenFile, 'utf8').trim());
  const control = () => Promise.reject(new Error('not needed'));
  const desk = new Desk({ canaries, gatewayUrl: url, control, stateFile });
  // Asked directly: the answers of this Plaid hold tokens, as Plaid's do.
  const client = { id: clientId, key: secret };
  const created = await desk.good(client, '/sandbox/public_token/create', {
    institution_id: 'ins_109508',
    initial_products: ['transactions'],
  });
  await desk.post(client, '/item/public_token/exchange', { public_token: created.public_token }, {}, ['vaulted']);
  canaries.keepProcesses('simulate', [program.pid]);
  await program.kill('SIGTERM');
  canaries.holds('simulate, stdout', 'vaulted');
  canaries.keep('simulate, stdout', program.stdout());
  canaries.keep('simulate, stderr', program.stderr());
  canaries.holds('around/cwd/simulated.json', 'vaulted', 'pass');
  canaries.holds('around/cwd/control-token.txt', 'control token');
}

async function run(name: string, ground: CanaryGround, leastBytes: number): Promise<boolean> {
  const begun = performance.now();
  try {
    await stories(ground);
    const { places, bytes, secrets, findings, missing } = await ground.finish();
    for (const finding of findings.slice(0, 50)) console.error(`FOUND    ${finding}`);
    for (const place of missing) console.error(`MISSING  ${place}`);
    const seconds = Math.round((performance.now() - begun) / 1000);
    console.log(
      `${name}: ${secrets} secrets, ${places} places, ${bytes} bytes searched in ${seconds} s; ${findings.length} findings`,
    );
    // A search that looked at little, or for little, proves little.
    return findings.length === 0 && missing.length === 0 && secrets > 400 && bytes > leastBytes;
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
