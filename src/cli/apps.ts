import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';
import { parseArgs } from 'node:util';
import type { Policy } from '../access/policy.ts';
import { ANYWHERE, PRESETS, type PresetName, presetPolicy } from '../access/presets.ts';
import { StrongroomError } from '../base/errors.ts';
import { ADMIN_OPTIONS, ADMIN_USAGE, type AdminClient, readText, withAdmin } from './admin-client.ts';
import type { Command, Io } from './command.ts';
import { plain, printJson, table } from './print.ts';

/** Applications from the command line. Everything goes through the admin API and is audited there. */

interface Application {
  readonly application_id: string;
  readonly name: string;
  readonly plaid_client_id: string;
  readonly policy: Policy;
  readonly created_at: string;
  readonly disabled_at: string | null;
  readonly keys: readonly { readonly key_id: string; readonly expires_at: string | null }[];
  readonly freezes: readonly { readonly class: string; readonly since: string; readonly reason: string }[];
}

const JSON_OPTION = { json: { type: 'boolean', default: false } } as const;
const COMMON_USAGE = `${ADMIN_USAGE}
  --json              Print JSON.`;
const APP = 'APP is an application id or name.';
const MAX_POLICY_BYTES = 256 * 1024;

export const appsAdd: Command = {
  name: 'apps add',
  summary: 'Add an application and print its key, once.',
  usage: `usage: strongroom apps add NAME (--preset PRESET --source CIDR... | --policy FILE)

  --preset PRESET     ${PRESETS.join(', ')}; see docs/policy.md.
  --source CIDR       Where it may call from; repeat for more, or \`any\`.
  --policy FILE       A whole policy as JSON, or - for standard input.
  --plaid-client NAME Which Plaid client; needed when there are several.
${COMMON_USAGE}`,

  run: (argv, io) => {
    const { values, positionals } = parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        ...ADMIN_OPTIONS,
        ...JSON_OPTION,
        preset: { type: 'string' },
        source: { type: 'string', multiple: true },
        policy: { type: 'string' },
        'plaid-client': { type: 'string' },
      },
    });
    const name = only(positionals, 'NAME');
    return withAdmin(values, io, async (admin) => {
      const policy = await newPolicy(values, io.stdin);
      const { application, key } = await admin.call<{ application: Application; key: string }>(
        'POST',
        '/applications',
        {
          name,
          policy,
          ...(values['plaid-client'] === undefined ? {} : { plaid_client: values['plaid-client'] }),
        },
      );
      printKey(io, values.json, application, key);
      return 'ok';
    });
  },
};

export const appsList: Command = {
  name: 'apps list',
  summary: 'List the applications.',
  usage: `usage: strongroom apps list

${COMMON_USAGE}`,

  run: (argv, io) => {
    const { values } = parseArgs({ args: argv, options: { ...ADMIN_OPTIONS, ...JSON_OPTION } });
    return withAdmin(values, io, async (admin) => {
      const { applications } = await list(admin);
      if (values.json) {
        printJson(io, { applications });
        return 'ok';
      }
      const rows = applications.map((application) => [
        application.application_id,
        application.name,
        stateOf(application),
        String(application.keys.length),
        application.created_at.slice(0, 10),
      ]);
      io.stdout.write(
        rows.length === 0 ? 'No applications yet.\n' : table(['ID', 'NAME', 'STATE', 'KEYS', 'SINCE'], rows),
      );
      return 'ok';
    });
  },
};

export const appsPolicy: Command = {
  name: 'apps policy',
  summary: "Show or replace an application's policy, or lift its freezes.",
  usage: `usage: strongroom apps policy APP [--set FILE] [--unfreeze CLASS...]

${APP}
  --set FILE          Replace the whole policy by this JSON, or - for standard input.
  --unfreeze CLASS    Lift the freeze of a class; repeat for more, or \`all\`.
${COMMON_USAGE}`,

  run: (argv, io) => {
    const { values, positionals } = parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        ...ADMIN_OPTIONS,
        ...JSON_OPTION,
        set: { type: 'string' },
        unfreeze: { type: 'string', multiple: true },
      },
    });
    const wanted = only(positionals, 'APP');
    return withAdmin(values, io, async (admin) => {
      const policy = values.set === undefined ? undefined : await readPolicy(values.set, io.stdin);
      let application = await resolve(admin, wanted);
      const path = `/applications/${application.application_id}`;
      if (policy !== undefined) {
        ({ application } = await admin.call<{ application: Application }>('PUT', `${path}/policy`, policy));
      }
      if (values.unfreeze !== undefined) {
        const classes = values.unfreeze.includes('all') ? 'all' : values.unfreeze;
        ({ application } = await admin.call<{ application: Application }>('POST', `${path}/unfreeze`, { classes }));
      }
      if (values.json) printJson(io, { application });
      else {
        io.stdout.write(`${JSON.stringify(application.policy, null, 2)}\n`);
        for (const freeze of application.freezes) {
          io.stderr.write(`frozen for ${freeze.class} since ${freeze.since}: ${plain(freeze.reason)}\n`);
        }
      }
      return 'ok';
    });
  },
};

export const appsRotateKey: Command = {
  name: 'apps rotate-key',
  summary: 'Make a new key and print it, once; the old one stays valid for a while.',
  usage: `usage: strongroom apps rotate-key APP [--old-valid TIME] [--replace older|newer]

${APP}
  --old-valid TIME    How long the old key stays valid: 90s, 30m, 24h, 7d, or 0. Default 24h.
  --replace WHICH     With two valid keys: which of them makes room. \`newer\` when the
                      newest key was never put to use, \`older\` when the oldest no longer is.
${COMMON_USAGE}`,

  run: (argv, io) => {
    const { values, positionals } = parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        ...ADMIN_OPTIONS,
        ...JSON_OPTION,
        'old-valid': { type: 'string' },
        replace: { type: 'string' },
      },
    });
    const wanted = only(positionals, 'APP');
    const seconds = values['old-valid'] === undefined ? undefined : secondsOf(values['old-valid']);
    return withAdmin(values, io, async (admin) => {
      const { application_id: id } = await resolve(admin, wanted);
      const { application, key } = await admin.call<{ application: Application; key: string }>(
        'POST',
        `/applications/${id}/keys`,
        {
          ...(seconds === undefined ? {} : { old_key_valid_seconds: seconds }),
          ...(values.replace === undefined ? {} : { replaces: values.replace }),
        },
      );
      printKey(io, values.json, application, key);
      return 'ok';
    });
  },
};

export const appsDisable: Command = {
  name: 'apps disable',
  summary: 'Shut an application out, for good.',
  usage: `usage: strongroom apps disable APP [--yes]

${APP} It stays disabled; its items stay in custody.
  --yes               Do not ask.
${COMMON_USAGE}`,

  run: (argv, io) => {
    const { values, positionals } = parseArgs({
      args: argv,
      allowPositionals: true,
      options: { ...ADMIN_OPTIONS, ...JSON_OPTION, yes: { type: 'boolean', default: false } },
    });
    const wanted = only(positionals, 'APP');
    return withAdmin(values, io, async (admin) => {
      const found = await resolve(admin, wanted);
      if (!values.yes && !(await confirmed(io, found))) return 'usage';
      const { application } = await admin.call<{ application: Application }>(
        'POST',
        `/applications/${found.application_id}/disable`,
      );
      if (values.json) printJson(io, { application });
      else io.stdout.write(`disabled ${plain(application.name)} (${application.application_id})\n`);
      return 'ok';
    });
  },
};

export const APPS: readonly Command[] = [appsAdd, appsList, appsPolicy, appsRotateKey, appsDisable];

const list = (admin: AdminClient) => admin.call<{ applications: Application[] }>('GET', '/applications');

/** By id or by name; no name reads like an id. */
async function resolve(admin: AdminClient, wanted: string): Promise<Application> {
  const { applications } = await list(admin);
  const found =
    applications.find((application) => application.application_id === wanted) ??
    applications.find((application) => application.name === wanted.normalize('NFC'));
  if (found === undefined) throw new StrongroomError('APPLICATION_UNKNOWN');
  return found;
}

async function newPolicy(
  values: { preset?: string | undefined; source?: string[] | undefined; policy?: string | undefined },
  stdin: NodeJS.ReadableStream,
): Promise<unknown> {
  if (values.policy !== undefined) {
    if (values.preset !== undefined || values.source !== undefined) {
      throw new StrongroomError('USAGE', { detail: '--policy is whole: leave --preset and --source out.' });
    }
    return await readPolicy(values.policy, stdin);
  }
  const preset = PRESETS.find((name) => name === values.preset) as PresetName | undefined;
  if (preset === undefined) {
    throw new StrongroomError('USAGE', { detail: `Give --policy FILE, or --preset ${PRESETS.join('|')}.` });
  }
  // An empty list means nobody, and a default of "anywhere" would be nobody's decision.
  if (values.source === undefined) {
    throw new StrongroomError('USAGE', { detail: 'Say where it may call from: --source 10.0.0.0/8, or --source any.' });
  }
  return presetPolicy(
    preset,
    values.source.flatMap((source) => (source === 'any' ? [...ANYWHERE] : [source])),
  );
}

async function readPolicy(file: string, stdin: NodeJS.ReadableStream): Promise<unknown> {
  let text: string;
  try {
    text = file === '-' ? await readText(stdin, MAX_POLICY_BYTES) : readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof StrongroomError) throw error;
    throw new StrongroomError('USAGE', { detail: 'The policy file cannot be read.' }, error);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new StrongroomError('USAGE', { detail: 'The policy is not JSON.' }, error);
  }
}

const UNITS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;

function secondsOf(text: string): number {
  if (text === '0') return 0;
  const match = /^([1-9][0-9]{0,6})([smhd])$/.exec(text);
  if (match === null) throw new StrongroomError('USAGE', { detail: '--old-valid takes 90s, 30m, 24h, 7d or 0.' });
  return Number(match[1]) * UNITS[match[2] as keyof typeof UNITS];
}

function only(positionals: readonly string[], what: string): string {
  const [one] = positionals;
  if (one === undefined || positionals.length > 1)
    throw new StrongroomError('USAGE', { detail: `It takes one ${what}.` });
  return one;
}

async function confirmed(io: Io, application: Application): Promise<boolean> {
  if ((io.stdin as { isTTY?: boolean }).isTTY !== true) {
    throw new StrongroomError('USAGE', { detail: 'Nobody can be asked here: add --yes.' });
  }
  const asking = createInterface({ input: io.stdin, output: io.stderr });
  try {
    const answer = await asking.question(`Disable ${plain(application.name)} for good? Type its name: `);
    return answer.trim().normalize('NFC') === application.name;
  } finally {
    asking.close();
  }
}

function stateOf(application: Application): string {
  if (application.disabled_at !== null) return 'disabled';
  const frozen = application.freezes.map((freeze) => freeze.class);
  return frozen.length === 0 ? 'active' : `frozen: ${frozen.join(', ')}`;
}

/** The key goes to standard output; what is said about it does not, so that a pipe gets the key alone. */
function printKey(io: Io, json: boolean, application: Application, key: string): void {
  if (json) {
    printJson(io, { application, key });
    return;
  }
  io.stderr.write(
    `${plain(application.name)}\n  PLAID-CLIENT-ID  ${application.application_id}\n  PLAID-SECRET     the next line; it is shown this once\n`,
  );
  io.stdout.write(`${key}\n`);
  for (const { expires_at: end } of application.keys) {
    if (end !== null) io.stderr.write(`  The key before it is valid until ${end}.\n`);
  }
}
