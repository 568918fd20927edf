import { readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import { StrongroomError } from './base/errors.ts';
import { type Hostility, hostileEnvironment } from './config-environment.ts';
import { type Finding, MOST_BYTES, parseConfig } from './config-parse.ts';
import { RULES } from './config-rules.ts';
import type { Config } from './config-schema.ts';

export type { Finding } from './config-parse.ts';
export type { Config } from './config-schema.ts';

/**
 * Where configuration comes in: the one file that reads the environment, and the
 * one door from `strongroom.yaml` to a typed, frozen {@link Config}.
 *
 * The table of settings is config-schema.ts, reading is config-parse.ts, rules
 * across settings are config-rules.ts. Secrets are not read here: a `Config`
 * holds references only and may be printed.
 */

export interface CheckedConfig {
  /** Null as soon as there is one finding. */
  readonly config: Config | null;
  /** In the order of the file. */
  readonly findings: readonly Finding[];
}

/** Checks the text of a configuration file. Pure; never throws, whatever the text. */
export function checkConfig(text: string, file: string): CheckedConfig {
  const parsed = parseConfig(text, file);
  const findings: Finding[] = [...parsed.findings];
  const production = parsed.draft.deployment?.environment === 'production';
  for (const rule of RULES) {
    if (rule.production === true && !production) continue;
    const code = rule.production === true ? 'PRODUCTION_REFUSED' : 'CONFIG_INVALID';
    for (const breach of rule.breaches(parsed.draft)) {
      // What is misspelt looks missing to a rule: the first finding is the one to mend.
      if (parsed.findings.some(({ setting }) => touches(setting, breach.setting))) continue;
      findings.push({ code, file, ...parsed.place(breach.setting), ...breach, rule: rule.name });
    }
  }
  findings.sort((a, b) => a.line - b.line || a.column - b.column);
  // Without findings every setting of the table is there: the draft is the configuration.
  return { config: findings.length === 0 ? deepFreeze(parsed.draft as Config) : null, findings };
}

/** Whether one setting is the other, or stands inside it. */
function touches(one: string, other: string): boolean {
  const inside = (a: string, b: string): boolean => a.startsWith(b) && /^[.[]/.test(a.slice(b.length));
  return one === other || (one !== '' && (inside(one, other) || inside(other, one)));
}

/**
 * `file:line:column [setting] problem; what to write (rule)`; editors can jump to
 * the beginning. No colon follows the setting: `secret: word` would be redacted.
 */
export function describeFinding(finding: Finding): string {
  const where = `${finding.file}:${finding.line}:${finding.column}`;
  const setting = finding.setting === '' ? '' : ` [${finding.setting}]`;
  const rule = finding.rule === undefined ? '' : ` (${finding.rule})`;
  return `${where}${setting} ${finding.problem}; ${finding.write}${rule}`;
}

/**
 * Reads and checks a configuration file.
 *
 * @param start - How the process was started; the default is how it was. In
 *   staging and production hostile variables and flags are findings too.
 * @throws StrongroomError `CONFIG_INVALID`, or `PRODUCTION_REFUSED` when all that
 *   is wrong is what production forbids. The message carries every finding, one
 *   a line, and no value from the file.
 */
export function loadConfig(path: string, start: Start = thisStart()): Config {
  const file = resolve(path);
  const { config, findings } = checkConfig(readText(file), file);
  if (config === null) throw refusal(findings.map(describeFinding), findings, file);
  if (config.deployment.environment !== 'development') {
    const hostile = hostileEnvironment(start.env, start.execArgv);
    if (hostile.length > 0) throw refusal(hostile.map(describeHostility), [{ code: 'PRODUCTION_REFUSED' }], file);
  }
  return config;
}

function refusal(lines: string[], findings: readonly { code: Finding['code'] }[], file: string): StrongroomError {
  const invalid = findings.some((finding) => finding.code === 'CONFIG_INVALID');
  const detail = `\n${lines.map((line) => `  ${line}`).join('\n')}`;
  return new StrongroomError(invalid ? 'CONFIG_INVALID' : 'PRODUCTION_REFUSED', {
    file,
    findings: lines.length,
    detail,
  });
}

function readText(file: string): string {
  try {
    const stat = statSync(file);
    // A FIFO or a device would block or never end.
    if (!stat.isFile()) throw new StrongroomError('CONFIG_INVALID', { file, detail: `${file} is not a file.` });
    if (stat.size > MOST_BYTES) {
      throw new StrongroomError('CONFIG_INVALID', { file, detail: `${file} has more than ${MOST_BYTES} bytes.` });
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    if (error instanceof StrongroomError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    const why =
      code === 'ENOENT' ? 'does not exist' : code === 'EACCES' ? 'may not be read by this user' : 'is not UTF-8 text';
    throw new StrongroomError('CONFIG_INVALID', { file, detail: `${file} ${why}.` });
  }
}

/** How a process was started: its environment and Node's own flags. */
export interface Start {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly execArgv: readonly string[];
}

export function thisStart(): Start {
  return { env: process.env, execArgv: process.execArgv };
}

/** `NODE_OPTIONS --inspect: is not among ...`, for the warning of development. */
export function describeHostility({ name, problem }: Hostility): string {
  return `${name} ${problem}; start without it`;
}

/** The two variables that Strongroom reads. */
export interface Environment {
  /** `STRONGROOM_HOME`, else `.strongroom` in the working directory. Absolute. */
  readonly home: string;
  /** `STRONGROOM_CONFIG`: the file that `--config` names where it is left out. */
  readonly configPath: string | null;
}

export function environment(env: Start['env'] = process.env): Environment {
  const named = (value: string | undefined): string | null =>
    value === undefined || value === '' ? null : resolve(value);
  return { home: named(env.STRONGROOM_HOME) ?? resolve('.strongroom'), configPath: named(env.STRONGROOM_CONFIG) };
}

/** Files below the home folder that {@link devConfig} refers to; whoever starts `dev` makes them, with mode 0600. */
export const DEV_FILES = {
  kek: 'kek',
  plaidSecret: join('secrets', 'plaid-secret.txt'),
  adminToken: join('secrets', 'admin-token.txt'),
  signingKey: join('secrets', 'audit-signing-key.txt'),
  heads: 'audit-heads.log',
} as const;

/** The client id that the simulator of `strongroom dev` knows. */
export const DEV_CLIENT_ID = 'd0d0d0d0d0d0d0d0d0d0d0d0';

/**
 * The configuration of `strongroom dev`: development, sandbox, embedded database,
 * file KEK, everything on loopback. It passes the same checks as a file.
 *
 * @param home - Absolute path of the home folder.
 * @param portBase - Gateway here, admin API one higher, simulator two higher; 0 takes free ports.
 * @param upstream - Origin of the simulator; needed when `portBase` is 0.
 */
export function devConfig(home: string, portBase: number, upstream?: string): Config {
  const port = (offset: number): number => (portBase === 0 ? 0 : portBase + offset);
  const file = (name: string): string => `file:${join(home, name)}`;
  const written = {
    deployment: { id: 'development', environment: 'development' },
    plaid: {
      environment: 'sandbox',
      clients: [{ name: 'default', clientId: DEV_CLIENT_ID, secret: file(DEV_FILES.plaidSecret) }],
      upstream: upstream ?? `http://127.0.0.1:${port(2)}`,
    },
    database: { embedded: true, topology: 'single' },
    kms: { provider: 'file', file: { path: join(home, DEV_FILES.kek) } },
    listeners: {
      gateway: { port: port(0) },
      admin: { port: port(1), token: file(DEV_FILES.adminToken) },
    },
    audit: { signingKey: file(DEV_FILES.signingKey), heads: [{ file: join(home, DEV_FILES.heads) }] },
    logging: { destination: 'stderr' },
  };
  const { config, findings } = checkConfig(stringify(written), 'strongroom dev');
  if (config === null) throw refusal(findings.map(describeFinding), findings, home);
  return config;
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    for (const inner of Object.values(value)) deepFreeze(inner);
    Object.freeze(value);
  }
  return value;
}
