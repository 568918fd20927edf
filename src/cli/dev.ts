import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Simulator, startSimulator } from '../../simulator/start.ts';
import { StrongroomError } from '../base/errors.ts';
import { DEV_CLIENT_ID, DEV_FILES, describeHostility, devConfig, environment, thisStart } from '../config.ts';
import { hostileEnvironment } from '../config-environment.ts';
import { createKekFile } from '../envelope/kms-file.ts';
import { ROLES, startStrongroom } from '../main.ts';
import { guardProcess } from '../redaction/crash.ts';
import { openLog } from '../redaction/logger.ts';
import { startEmbedded } from '../store/embedded.ts';
import { openHome, replaceFile } from '../store/home.ts';
import { migrate } from '../store/migrate.ts';
import type { Command } from './command.ts';
import { devJson, linkDemo, summary } from './dev-demo.ts';
import { untilSignal } from './serve.ts';

/** `npm start`: a whole Strongroom with an offline Plaid, on an embedded PostgreSQL, in one process. */
export const dev: Command = {
  name: 'dev',
  summary: 'Run everything on this machine, with an offline Plaid: for trying and developing.',
  usage: `usage: strongroom dev [--port-base N] [--json]

  --port-base N       Gateway on N, admin API on N+1, simulator on N+2 and N+3.
                      Default 7100; 0 takes free ports.
  --json              Print what is in dev.json when ready, in place of the summary.

Keeps everything in STRONGROOM_HOME (default .strongroom/), also over restarts:
keys, database, the simulator's items, log (strongroom.log), dev.json while it runs.
Ends on SIGINT and SIGTERM. Not for production: see docs/operations/.
`,

  async run(argv, io) {
    const { values } = parseArgs({
      args: argv,
      options: {
        'port-base': { type: 'string', default: '7100' },
        json: { type: 'boolean', default: false },
      },
    });
    const portBase = portOf(values['port-base']);
    const begun = performance.now();
    const home = openHome(environment().home);
    const devFile = join(home.path, 'dev.json');
    rmSync(devFile, { force: true });

    const opened: (() => Promise<void> | void)[] = [() => home.release()];
    const close = async () => {
      rmSync(devFile, { force: true });
      for (const step of opened.splice(0).reverse()) await step();
    };
    // Listened for from the first moment: a start that is interrupted also ends in order.
    const ended = untilSignal();
    try {
      const sink = openLog({ destination: join(home.path, 'strongroom.log'), bufferBytes: 4096 });
      opened.push(() => sink.flush());
      guardProcess(sink);
      const start = thisStart();
      for (const hostility of hostileEnvironment(start.env, start.execArgv)) {
        sink.log.warn({ reason: describeHostility(hostility) }, 'unsafe start, tolerated in development');
      }

      await makeSecrets(home.path);
      const both = [
        startEmbedded({
          home,
          onEnded: (ending) =>
            sink.log.error({ component: 'postgres', ...ending }, 'the database server ended by itself'),
        }),
        startPlaid(home.path, portBase),
      ] as const;
      both[0].then((server) => opened.push(() => server.stop())).catch(() => {});
      both[1].then((plaid) => opened.push(() => plaid.close())).catch(() => {});
      // Waited for also when the other fails: what has started keeps the process alive until it is stopped.
      await Promise.allSettled(both);
      const [database, simulator] = await Promise.all(both);
      await migrate(database.connection('owner'));

      const running = await startStrongroom({
        config: devConfig(home.path, portBase, simulator.url),
        roles: ROLES,
        connection: (role) => database.connection(role),
        log: sink.log,
      });
      opened.push(() => running.stop());

      const parts = {
        gatewayUrl: running.gatewayUrl as string,
        adminUrl: running.adminUrl as string,
        adminToken: readFileSync(join(home.path, DEV_FILES.adminToken), 'utf8').trim(),
      };
      const demo = await linkDemo(home.path, parts);
      const description = devJson(parts, demo, simulator, database);
      replaceFile(devFile, `${JSON.stringify(description, null, 2)}\n`);
      io.stdout.write(
        values.json
          ? `${JSON.stringify(description)}\n`
          : await summary({
              home: home.path,
              seconds: (performance.now() - begun) / 1000,
              demo,
              description,
              database,
            }),
      );

      await ended;
      if (!values.json) io.stderr.write('\nstopping ...\n');
      return 'ok';
    } finally {
      await close();
    }
  },
};

function portOf(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65_530) {
    throw new StrongroomError('USAGE', { detail: '--port-base takes a port from 0 to 65530.' });
  }
  return port;
}

function startPlaid(home: string, portBase: number): Promise<Simulator> {
  return startSimulator({
    port: portBase === 0 ? 0 : portBase + 2,
    controlPort: portBase === 0 ? 0 : portBase + 3,
    stateFile: join(home, 'simulator.json'),
    clientId: DEV_CLIENT_ID,
    secret: readFileSync(join(home, DEV_FILES.plaidSecret), 'utf8').trim(),
  });
}

/** What the configuration of `dev` refers to; made once, each file 0600. */
async function makeSecrets(home: string): Promise<void> {
  mkdirSync(join(home, 'secrets'), { recursive: true, mode: 0o700 });
  const once = (name: string, content: () => string) => {
    if (!existsSync(join(home, name))) replaceFile(join(home, name), content());
  };
  // Plaid's secrets are 30 lower-case hexadecimal digits; this one opens nothing but the simulator.
  once(DEV_FILES.plaidSecret, () => `${randomBytes(15).toString('hex')}\n`);
  once(DEV_FILES.adminToken, () => `${randomBytes(32).toString('base64url')}\n`);
  once(DEV_FILES.signingKey, () =>
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  );
  // Only for a home without data: a key that is lost must be missed, not replaced.
  if (!existsSync(join(home, 'postgres'))) await createKekFile(join(home, DEV_FILES.kek));
}
