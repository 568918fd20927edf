import { parseArgs } from 'node:util';
import { migrate } from '../store/migrate.ts';
import type { Command } from './command.ts';
import { connectionsOf } from './connections.ts';
import { printJson } from './print.ts';
import { configOf } from './serve.ts';

/** Brings the schema up to date. The only command that uses the owner's login. */
export const migrateCommand: Command = {
  name: 'migrate',
  summary: 'Bring the database schema up to date.',
  usage: `usage: strongroom migrate --config FILE

  --config FILE       The configuration; default: STRONGROOM_CONFIG. Uses database.logins.owner.
  --json              Print JSON.

Safe to run from several machines at once and to repeat. Goes forward only.
`,

  async run(argv, io) {
    const { values } = parseArgs({
      args: argv,
      options: { config: { type: 'string' }, json: { type: 'boolean', default: false } },
    });
    const config = configOf(values.config);
    const connection = await connectionsOf(config, ['owner'] as const);
    const { applied, version } = await migrate(connection('owner'));
    if (values.json) printJson(io, { applied: applied.map(({ name }) => name), version });
    else {
      for (const { name } of applied) io.stdout.write(`applied ${name}\n`);
      io.stdout.write(`The schema is at ${version}.\n`);
    }
    return 'ok';
  },
};
