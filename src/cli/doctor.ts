import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { StrongroomError } from '../base/errors.ts';
import { devConfig, environment } from '../config.ts';
import { type Check, type ExamineOptions, examine } from '../main.ts';
import { type DatabaseRole, parseDatabaseUrl } from '../store/connection.ts';
import { startEmbedded } from '../store/embedded.ts';
import { loginUser } from '../store/embedded-logins.ts';
import { readSecret } from '../store/home.ts';
import type { Command, Io } from './command.ts';
import { connectionsOf } from './connections.ts';
import { plain, printJson } from './print.ts';
import { configOf } from './serve.ts';

/** Looks an installation over. Needs no running server. */
export const doctor: Command = {
  name: 'doctor',
  summary: 'Check server, logins, stamp and keys, and hold the tables against the audit log.',
  usage: `usage: strongroom doctor [--config FILE] [--json]

  --config FILE       The configuration of an installation; STRONGROOM_CONFIG also names one.
                      Without it: the home of strongroom dev (STRONGROOM_HOME), running or not.
  --json              Print {"ok", "checks": [{"name", "outcome", "says", "remedy", "details"}]}.

Reads with the login database.logins.auditor, else admin, else worker. With the worker's login
it also unwraps the data keys, and the audit log gets an entry for each.

Names every record that was rolled back, moved to another owner, put in by hand or lost, every
policy and key that nobody set, entries that are missing from the audit log, and outcomes that
are not known. Reads the whole log: some seconds for a million entries.

Exit codes: 0 ok, 1 a finding, 2 usage, 3 a check could not be made.
`,

  async run(argv, io) {
    const { values } = parseArgs({
      args: argv,
      options: { config: { type: 'string' }, json: { type: 'boolean', default: false } },
    });
    const { config: path } = values;
    const target = path === undefined && environment().configPath === null ? await devHome() : await installation(path);
    const checks: Check[] = [];
    try {
      for await (const check of examine(target)) {
        checks.push(check);
        if (!values.json) print(check, io);
      }
    } finally {
      await target.close();
    }
    const sound = checks.every(({ outcome }) => outcome !== 'finding');
    if (values.json) printJson(io, { ok: sound, checks });
    return sound ? 'ok' : 'finding';
  },
};

type Target = ExamineOptions & { close(): Promise<void> };

/** An installation by its configuration. A login whose password this user cannot read is as good as none. */
async function installation(path: string | undefined): Promise<Target> {
  const config = configOf(path);
  return {
    config,
    async connection(login) {
      if (login === 'webhooks' || config.database.logins?.[login] === undefined) return null;
      try {
        return (await connectionsOf(config, [login]))(login);
      } catch (error) {
        if (error instanceof StrongroomError && error.code === 'SECRET_UNREADABLE') return null;
        throw error;
      }
    },
    close: async () => {},
  };
}

/** `strongroom dev`: the server that runs, or else one that is started for this look. */
async function devHome(): Promise<Target> {
  const { home } = environment();
  if (!existsSync(join(home, 'postgres'))) {
    throw new StrongroomError('NOT_RUNNING', {
      detail: `There is no installation in ${home}: name a configuration with --config FILE.`,
    });
  }
  // The ports and the place of Plaid are not looked at.
  const config = devConfig(home, 7100);
  const running = placeOfRunning(home);
  if (running === null) {
    const server = await startEmbedded({ home });
    return { config, connection: async (login) => server.connection(login), close: () => server.stop() };
  }
  return {
    config,
    async connection(login: DatabaseRole) {
      const password = readSecret(home, `database-${login}`);
      return password === null ? null : { ...running, user: loginUser(login), password };
    },
    close: async () => {},
  };
}

function placeOfRunning(home: string): { host: string; port: number; database: string } | null {
  let text: unknown;
  try {
    text = (JSON.parse(readFileSync(join(home, 'dev.json'), 'utf8')) as { database?: { url?: unknown } }).database?.url;
  } catch {
    return null; // not there: nothing runs, or it is about to; the lock of the home decides
  }
  if (typeof text !== 'string') return null;
  const { host, port, database } = parseDatabaseUrl(text);
  return { host, port, database };
}

const MARKS = { ok: 'ok', finding: 'FINDING', skipped: '-' } as const;
/** Lines under a finding; the rest is in --json. */
const MOST_LINES = 20;

function print({ name, outcome, says, remedy, details }: Check, { stdout }: Io): void {
  stdout.write(`${MARKS[outcome].padEnd(8)} ${name.padEnd(13)} ${plain(says)}\n`);
  for (const { code, id, says: detail } of details.slice(0, MOST_LINES)) {
    stdout.write(`           ${plain(`${code}${id === null ? '' : ` ${id}`}: ${detail}`)}\n`);
  }
  if (details.length > MOST_LINES) stdout.write(`           ... ${details.length - MOST_LINES} more; see --json\n`);
  if (remedy !== null) stdout.write(`           What to do: ${plain(remedy)}\n`);
}
