import assert from 'node:assert/strict';
import { createPrivateKey } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { RELEASED_KINDS } from '../../src/access/policy.ts';
import { presetPolicy } from '../../src/access/presets.ts';
import { DEV_FILES } from '../../src/config.ts';
import { ENDPOINTS } from '../../src/plaid/endpoints.ts';
import { Canaries, type CanaryReport, family } from './canary.ts';
import { type App, Desk } from './canary-stories.ts';
import { devInstallation, type Installation, type Running, serveInstallation } from './installation.ts';
import { type Program, runProgram } from './program.ts';
import { HOME_PREFIX, type TestServer } from './server.ts';

/**
 * A place for a canary run: an installation whose processes get folders, an
 * environment and a working directory of their own, so that everything they write
 * anywhere can be found, and the list of what may stand where.
 */
export interface CanaryGround {
  readonly canaries: Canaries;
  readonly installation: Installation;
  /** The working directory of its processes, for files of an operator. */
  readonly folder: string;
  /** Starts it, and learns what secrets it has made. */
  start(): Promise<{ readonly desk: Desk; readonly running: Running }>;
  /** What runs now. */
  running(): { readonly desk: Desk; readonly running: Running };
  /** Ends what runs, and starts again. */
  restart(signal: NodeJS.Signals): Promise<{ readonly desk: Desk; readonly running: Running }>;
  /** An application that may do everything, added by the command line. */
  application(name: string): Promise<App>;
  /** A command of ours; what it prints is searched. */
  cli(
    args: readonly string[],
    input?: string,
    holds?: readonly string[],
  ): Promise<{ code: number | null; stdout: string }>;
  /** Snapshots what a running process shows of itself. */
  snapshot(): void;
  /** The secrets that stand in a file of their own, by group: what somebody could paste by mistake. */
  secrets(): Readonly<Record<string, string>>;
  /**
   * Searches the running database, stops, and searches everything that is left.
   *
   * @param probe - Looks at the same places, for something that is there: shows
   *   that the search gets to where things are kept.
   */
  finish(probe?: Canaries): Promise<CanaryReport>;
  close(): Promise<void>;
}

export async function canaryGround(server: TestServer | null): Promise<CanaryGround> {
  const around = mkdtempSync(join(tmpdir(), HOME_PREFIX));
  chmodSync(around, 0o711); // the embedded server's account passes through to its socket
  for (const folder of ['tmp', 'user', 'cwd'])
    mkdirSync(join(around, folder), { mode: folder === 'tmp' ? 0o711 : 0o700 });
  const how = {
    env: { TMPDIR: join(around, 'tmp'), HOME: join(around, 'user'), LANG: 'C.UTF-8' },
    cwd: join(around, 'cwd'),
    stateFile: true,
  };
  const installation = server === null ? devInstallation(how) : await serveInstallation(server, how);
  const { home } = installation;
  const canaries = new Canaries();
  let current: { desk: Desk; running: Running } | null = null;
  let starts = 0;
  let commands = 0;
  const programs: { name: string; program: Program }[] = [];
  const here = () => current ?? assert.fail('it is not running');

  const cli: CanaryGround['cli'] = async (args, input = '', holds = []) => {
    const { code, stdout, stderr } = await runProgram(args, { ...how, home, input });
    const name = `command ${++commands}, ${args.slice(0, 2).join(' ')}`;
    if (holds.length > 0) canaries.holds(`${name}, stdout`, ...holds);
    canaries.keep(`${name}, stdout`, stdout);
    canaries.keep(`${name}, stderr`, stderr);
    return { code, stdout };
  };
  const snapshot = () => {
    for (const { name, program } of programs) if (!program.over()) canaries.keepProcesses(name, family(program.pid));
  };
  const reach = () => ['--admin-url', here().running.adminUrl, '--token-file', here().running.tokenFile];

  const ground: CanaryGround = {
    canaries,
    installation,
    folder: how.cwd,
    running: here,
    cli: (args, input, holds) =>
      cli(
        args.flatMap((arg) => (arg === '@admin' ? reach() : [arg])),
        input,
        holds,
      ),
    async start() {
      const { program, ready } = installation.launch();
      programs.push({ name: `process ${++starts}`, program });
      const running = await ready;
      learnSecrets(canaries, home);
      const desk = new Desk({
        canaries,
        gatewayUrl: running.gatewayUrl,
        control: installation.control,
        stateFile: join(home, 'simulator.json'),
      });
      desk.learn();
      current = { desk, running };
      if (server === null) {
        // The summary shows the demo's handle and key; the snapshot is of dev.json as it is now.
        canaries.holds(`process ${starts}, stdout`, 'key', 'handle');
        canaries.holds(
          `start ${starts}, dev.json`,
          'key',
          'admin token',
          'vaulted',
          'control token',
          'database password',
        );
        canaries.keep(`start ${starts}, dev.json`, readFileSync(join(home, 'dev.json')));
      }
      return current;
    },
    async restart(signal) {
      snapshot();
      await here().running.program.kill(signal);
      return ground.start();
    },
    async application(name) {
      const policy = {
        ...presetPolicy('demo', ['0.0.0.0/0']),
        endpoints: [...new Set(ENDPOINTS.endpoints.map(({ path }) => path))],
        releases: [...RELEASED_KINDS],
      };
      const add = ['apps', 'add', name, '--policy', '-', '--json', ...reach()];
      const { code, stdout } = await cli(add, JSON.stringify(policy), ['key']);
      assert.equal(code, 0, stdout);
      const made = JSON.parse(stdout) as { application: { application_id: string }; key: string };
      canaries.token('key', made.key);
      return { id: made.application.application_id, key: made.key };
    },
    snapshot,
    secrets: () =>
      Object.fromEntries(
        [...secretFiles(home)].filter(([, text]) => !text.includes('\n')).map(([name, text]) => [groupOf(name), text]),
      ),
    async finish(probe) {
      snapshot();
      const searches = probe === undefined ? [canaries] : [canaries, probe];
      for (const search of searches) await search.lookAtDatabase('database', installation.query);
      for (const { program } of programs) await program.kill('SIGTERM');
      for (const { name, program } of programs) {
        canaries.keep(`${name}, stdout`, program.stdout());
        canaries.keep(`${name}, stderr`, program.stderr());
      }
      allowFiles(canaries, home);
      for (const search of searches) {
        search.lookAtFolder('home', home);
        search.lookAtFolder('around', around);
      }
      return canaries.report();
    },
    async close() {
      await installation.close();
      rmSync(around, { recursive: true, force: true });
    },
  };
  return ground;
}

/** Name and content of the files that hold one secret each. */
function secretFiles(home: string): Map<string, string> {
  const files = new Map<string, string>();
  for (const name of readdirSync(join(home, 'secrets'))) {
    if (name !== 'demo.json') files.set(name, readFileSync(join(home, 'secrets', name), 'utf8').trim());
  }
  return files;
}

const SECRET_GROUPS: Readonly<Record<string, string>> = {
  'plaid-secret.txt': 'vaulted',
  'admin-token.txt': 'admin token',
  'audit-signing-key.txt': 'signing key',
};
const groupOf = (name: string) => SECRET_GROUPS[name] ?? 'database password';

function learnSecrets(canaries: Canaries, home: string): void {
  canaries.secret('kek', readFileSync(join(home, DEV_FILES.kek)));
  for (const [name, text] of secretFiles(home)) {
    if (groupOf(name) === 'signing key') {
      // The 32 bytes behind the frame, which is the same for every key.
      const seed = createPrivateKey(text).export({ type: 'pkcs8', format: 'der' }).subarray(-32);
      canaries.secret('signing key', seed);
    } else canaries.secret(`${groupOf(name)}: ${name}`, text);
  }
  const read = (name: string) =>
    JSON.parse(existsSync(join(home, name)) ? readFileSync(join(home, name), 'utf8') : '{}') as Record<string, never>;
  const demo = read(join('secrets', 'demo.json')) as { applicationKey?: string; handle?: string };
  if (demo.applicationKey !== undefined) canaries.token('key', demo.applicationKey);
  if (demo.handle !== undefined) canaries.token('handle', demo.handle);
  const dev = read('dev.json') as { simulator?: { controlToken: string } };
  if (dev.simulator !== undefined) canaries.secret('control token', dev.simulator.controlToken);
}

/** Exactly these files were made to hold a secret, each its own. */
function allowFiles(canaries: Canaries, home: string): void {
  canaries.holds('home/kek', 'kek');
  for (const name of secretFiles(home).keys()) canaries.holds(`home/secrets/${name}`, groupOf(name));
  if (existsSync(join(home, 'secrets', 'demo.json'))) canaries.holds('home/secrets/demo.json', 'key', 'handle');
  canaries.holds('home/simulator.json', 'vaulted', 'pass', 'released', 'customer');
}
