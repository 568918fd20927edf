import { parseArgs } from 'node:util';
import { StrongroomError } from '../base/errors.ts';
import { type Config, describeHostility, environment, loadConfig, thisStart } from '../config.ts';
import { hostileEnvironment } from '../config-environment.ts';
import { ROLES, type Role, startStrongroom } from '../main.ts';
import { guardProcess } from '../redaction/crash.ts';
import { openLog } from '../redaction/logger.ts';
import type { Command } from './command.ts';
import { connectionsOf } from './connections.ts';

/** The start in production: a configuration file, any of the roles, until a signal. */
export const serve: Command = {
  name: 'serve',
  summary: 'Run the roles of this installation by a configuration file.',
  usage: `usage: strongroom serve --config FILE [--roles gateway,admin,worker]

  --config FILE       The configuration; default: STRONGROOM_CONFIG. docs/config.md has every setting.
  --roles LIST        Roles to run here. Default: all. At least one worker must run somewhere.
  --check             Only check the configuration, then exit.

Ends on SIGTERM and SIGINT, after finishing what is under way.
The schema is not touched: run strongroom migrate first.
`,

  async run(argv, io) {
    const { values } = parseArgs({
      args: argv,
      options: {
        config: { type: 'string' },
        roles: { type: 'string', default: ROLES.join(',') },
        check: { type: 'boolean', default: false },
      },
    });
    const roles = rolesOf(values.roles);
    const config = configOf(values.config);
    if (values.check) {
      io.stdout.write('The configuration is valid.\n');
      return 'ok';
    }
    const sink = openLog({
      level: config.logging.level,
      destination: config.logging.destination,
      base: { deployment: config.deployment.id },
      bufferBytes: 4096,
    });
    guardProcess(sink);
    const start = thisStart();
    for (const hostility of hostileEnvironment(start.env, start.execArgv))
      sink.log.warn({ reason: describeHostility(hostility) }, 'unsafe start');

    const running = await startStrongroom({
      config,
      roles,
      connection: await connectionsOf(config, roles),
      log: sink.log,
    });
    io.stderr.write(`strongroom: ready (${roles.join(', ')})\n`);
    await untilSignal();
    await running.stop();
    sink.flush();
    return 'ok';
  },
};

export function configOf(path: string | undefined): Config {
  const file = path ?? environment().configPath;
  if (file === null) throw new StrongroomError('USAGE', { detail: 'Name a configuration with --config FILE.' });
  return loadConfig(file);
}

function rolesOf(text: string): Role[] {
  const roles = text.split(',').map((role) => role.trim());
  for (const role of roles) {
    if (!ROLES.includes(role as Role)) {
      throw new StrongroomError('USAGE', { detail: `--roles takes ${ROLES.join(', ')}, separated by commas.` });
    }
  }
  return [...new Set(roles)] as Role[];
}

/** Resolves at the first SIGINT or SIGTERM. A second one ends the process at once. */
export function untilSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.once(signal, () => {
        process.once(signal, () => process.exit(3));
        resolve(signal);
      });
    }
  });
}
