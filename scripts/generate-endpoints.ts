/**
 * Writes src/plaid/endpoints.generated.ts and docs/endpoints.md from the types
 * of the installed `plaid` package and the knowledge tables beside this file.
 *
 *     bin/node24 scripts/generate-endpoints.ts            writes
 *     bin/node24 scripts/generate-endpoints.ts --check    compares, exit 1 when they differ
 *
 * It stops, and writes nothing, when the SDK has an endpoint, a token-like field
 * or an id-like field of a request that no rule covers, and when a rule names
 * something that the SDK does not have.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DISPOSITION, type EndpointRow, type TokenKind } from '../src/plaid/endpoints.ts';
import {
  ANSWER_TOKEN_EXCEPTIONS,
  ANSWER_TOKENS,
  CLIENT_CREDENTIALS,
  HARMLESS_NAMES,
  ID_LIKE,
  PLAIN_IDS,
  REQUEST_TOKENS,
  SAY_EACH_TIME,
  SUBJECTS,
  TOKEN_LIKE,
} from './endpoint-fields.ts';
import { KNOWLEDGE } from './endpoint-knowledge.ts';
import { compare, type Operation, readSdk } from './plaid-sdk.ts';

export const GENERATED = fileURLToPath(new URL('../src/plaid/endpoints.generated.ts', import.meta.url));
export const DOCUMENT = fileURLToPath(new URL('../docs/endpoints.md', import.meta.url));

interface Known {
  readonly class: EndpointRow['class'];
  readonly effect: EndpointRow['effect'];
  readonly reach: EndpointRow['reach'];
  readonly once: boolean;
  readonly creates: ReadonlyMap<string, string>;
  readonly claims: ReadonlyMap<string, string>;
  readonly subjects: ReadonlyMap<string, string>;
  readonly tokens: ReadonlyMap<string, string>;
  readonly plain: ReadonlySet<string>;
}

/** All that is wrong, in sentences, or the rows. */
export interface Outcome {
  readonly problems: readonly string[];
  readonly rows: readonly EndpointRow[];
  readonly version: string;
}

export function deriveRows(sdk = readSdk(), knowledge = readKnowledge(KNOWLEDGE)): Outcome {
  const problems: string[] = [];
  const rows: EndpointRow[] = [];
  const plainIds = new Set(Object.values(PLAIN_IDS).flat());
  const unused = new Set(knowledge.keys());
  for (const operation of sdk.operations) {
    const key = `${operation.method} ${operation.path}`;
    const known = knowledge.get(key);
    unused.delete(key);
    if (known === undefined) problems.push(`${key}: no row in endpoint-knowledge.ts`);
    else rows.push(deriveRow(operation, known, plainIds, (text) => problems.push(`${key}: ${text}`)));
  }
  for (const key of unused) problems.push(`${key}: the SDK has no such endpoint`);

  const named = new Set(rows.flatMap((row) => Object.values(row.subjects ?? {}).map(bare)));
  const learned = new Set(rows.flatMap((row) => Object.values({ ...row.creates, ...row.claims }).map(bare)));
  for (const kind of named)
    if (!learned.has(kind)) problems.push(`subject kind ${kind}: no answer or claim ever teaches its owner`);
  for (const kind of learned)
    if (!named.has(kind)) problems.push(`subject kind ${kind}: is learned and never asked for`);
  return { problems, rows, version: sdk.version };
}

function bare(kind: string): string {
  return kind.replace(/\?$/, '');
}

function deriveRow(
  operation: Operation,
  known: Known,
  plainIds: ReadonlySet<string>,
  problem: (text: string) => void,
): EndpointRow {
  const key = `${operation.method} ${operation.path}`;
  const tokensIn: Record<string, string> = {};
  const tokensOut: Record<string, string> = {};
  const subjects: Record<string, string> = {};
  const claims: Record<string, string> = {};
  const creates: Record<string, string> = {};
  const webhookUrls: string[] = [];

  for (const { path, required } of operation.request) {
    const name = lastName(path);
    const optional = required ? '' : '?';
    if (CLIENT_CREDENTIALS.has(path)) continue;
    const subject = known.subjects.get(path) ?? (known.plain.has(path) ? undefined : SUBJECTS[name]);
    const claim = known.claims.get(path);
    const kinds = REQUEST_TOKENS[name];
    if (kinds !== undefined) tokensIn[path] = kinds.join('|') + optional;
    if (claim !== undefined) claims[path] = claim + optional;
    else if (subject !== undefined) subjects[path] = subject + optional;
    if (/^webhook(_override)?$/.test(name)) webhookUrls.push(path);

    if (kinds === undefined && TOKEN_LIKE.test(name) && !HARMLESS_NAMES.has(name)) {
      problem(`request field ${path} looks like a token and no rule covers it`);
    }
    const settled = subject !== undefined || claim !== undefined || known.plain.has(path) || plainIds.has(name);
    if (ID_LIKE.test(name) && !settled) {
      problem(
        `request field ${path} looks like an id; ${SAY_EACH_TIME.has(name) ? 'its row must say what it is' : 'no rule covers it'}`,
      );
    }
  }
  if (operation.untypedRequest) {
    for (const [path, kind] of known.tokens) tokensIn[path] = kind;
    for (const [path, kind] of known.subjects) subjects[path] = `${kind}?`;
  }

  for (const { path } of operation.answer) {
    const name = lastName(path);
    const kind =
      ANSWER_TOKEN_EXCEPTIONS[`${key} ${path}`] ??
      ANSWER_TOKENS[path.split('.').slice(-2).join('.').replace('[]', '')] ??
      ANSWER_TOKENS[name];
    if (kind !== undefined) tokensOut[path] = kind;
    else if (
      TOKEN_LIKE.test(path.split('.').slice(-2).join('.')) &&
      TOKEN_LIKE.test(name) &&
      !HARMLESS_NAMES.has(name)
    ) {
      problem(`answer field ${path} looks like a token and no rule covers it`);
    }
  }
  const answers = new Set(operation.answer.map(({ path }) => path));
  for (const [path, kind] of known.creates) {
    if (!answers.has(path)) problem(`the answer has no field ${path}`);
    creates[path] = kind;
  }
  const requests = new Set(operation.request.map(({ path }) => path));
  for (const path of [...known.claims.keys(), ...known.subjects.keys(), ...known.plain]) {
    if (!requests.has(path) && !operation.untypedRequest) problem(`the request has no field ${path}`);
  }
  if (known.tokens.size > 0 && !operation.untypedRequest) problem('the SDK types this request: no $ needed');
  if ((known.class === 'sandbox') !== operation.path.startsWith('/sandbox/'))
    problem('class sandbox and path /sandbox/ go together');
  const anchors = Object.keys(tokensIn).length + Object.keys(subjects).length;
  if (known.reach === 'own' && anchors === 0) problem('reach is own, and the request has no token or subject');

  return {
    ...(operation.method === 'POST' ? {} : { method: operation.method as 'GET' | 'PUT' }),
    path: operation.path,
    class: known.class,
    effect: known.effect,
    reach: known.reach,
    ...(known.once ? { retry: 'never' as const } : {}),
    ...(operation.binary ? { binary: true } : {}),
    ...some('tokensIn', tokensIn),
    ...some('tokensOut', tokensOut),
    ...some('subjects', subjects),
    ...some('claims', claims),
    ...some('creates', creates),
    ...list(
      'plain',
      [...known.plain].filter((path) => SUBJECTS[path] !== undefined || REQUEST_TOKENS[path] !== undefined),
    ),
    ...list('webhookUrls', webhookUrls),
  };
}

function some<K extends string>(name: K, map: Record<string, string>): { [_ in K]?: Record<string, string> } {
  return Object.keys(map).length === 0 ? {} : ({ [name]: map } as { [_ in K]: Record<string, string> });
}

function list<K extends string>(name: K, values: string[]): { [_ in K]?: string[] } {
  return values.length === 0 ? {} : ({ [name]: values } as { [_ in K]: string[] });
}

function lastName(path: string): string {
  return path.slice(path.lastIndexOf('.') + 1).replace(/(\[\])+$/, '');
}

/** The rows of the knowledge table by `METHOD path`. Throws for a line that it does not understand. */
export function readKnowledge(table: string): Map<string, Known> {
  const rows = new Map<string, Known>();
  for (const line of table.split('\n').filter((text) => text.trim() !== '')) {
    const match = /^(?:(GET|PUT) )?(\/\S+) +(\w+) +(\w+) +(\w+)((?: +\S+)*)$/.exec(line);
    if (match === null) throw new Error(`endpoint-knowledge.ts: ${line}`);
    const [, method = 'POST', path, kind, effect, reach, rest = ''] = match;
    const maps = {
      '>': new Map<string, string>(),
      '@': new Map<string, string>(),
      '=': new Map<string, string>(),
      $: new Map<string, string>(),
    };
    const plain = new Set<string>();
    let once = false;
    for (const note of rest.split(' ').filter((text) => text !== '')) {
      const sign = note[0] as string;
      const pair = /^[>@$]([a-z_]+)=(.+)$|^=([a-z_]+):(.+)$/.exec(note);
      if (note === 'once') once = true;
      else if (sign === '-') plain.add(note.slice(1));
      else if (pair === null) throw new Error(`endpoint-knowledge.ts: ${note} in ${line}`);
      else maps[sign as keyof typeof maps].set((pair[2] ?? pair[4]) as string, (pair[1] ?? pair[3]) as string);
    }
    const key = `${method} ${path}`;
    if (rows.has(key)) throw new Error(`endpoint-knowledge.ts: ${key} twice`);
    rows.set(key, {
      class: kind as Known['class'],
      effect: effect as Known['effect'],
      reach: reach as Known['reach'],
      once,
      creates: maps['>'],
      claims: maps['@'],
      subjects: maps['='],
      tokens: maps.$,
      plain,
    });
  }
  return rows;
}

/** Names that are guarded at the top of every request that is not known to take them. */
function guardedNames(): string[] {
  return [...new Set([...Object.keys(REQUEST_TOKENS), ...Object.keys(SUBJECTS)])].sort(compare);
}

export function renderTable({ rows, version }: Outcome): string {
  const text = (value: unknown): string => {
    if (typeof value === 'string') return `'${value}'`;
    if (Array.isArray(value)) return `[${value.map(text).join(', ')}]`;
    if (typeof value !== 'object' || value === null) return String(value);
    const entries = Object.entries(value).map(
      ([key, item]) => `${/^\w+$/.test(key) ? key : `'${key}'`}: ${text(item)}`,
    );
    return `{ ${entries.join(', ')} }`;
  };
  return `// Written by scripts/generate-endpoints.ts from the types of plaid ${version} (npm, MIT) and
// scripts/endpoint-knowledge.ts. Do not edit: change the knowledge and generate again.
import type { EndpointRow } from './endpoints.ts';

export const SDK_VERSION = '${version}';

export const GUARDED_NAMES: readonly string[] = ${text(guardedNames())};

export const ROWS: readonly EndpointRow[] = [
${rows.map((row) => `  ${text(row)},`).join('\n')}
];
`;
}

export function renderDocument({ rows, version }: Outcome): string {
  const cell = (map: Readonly<Record<string, string>> | undefined): string =>
    Object.entries(map ?? {})
      .map(([path, kind]) => `\`${path}\` ${kind.replace('?', '').replaceAll('|', ' or ')}`)
      .join('<br>');
  const line = (row: EndpointRow): string => {
    const notes = [row.binary && 'binary', row.retry === 'never' && 'not repeated', row.webhookUrls && 'webhook URL'];
    return `| ${row.method ?? 'POST'} \`${row.path}\` | ${row.class} | ${row.effect} | ${row.reach} | ${cell(row.tokensIn)} | ${cell(row.tokensOut)} | ${cell(row.subjects)} | ${cell({ ...row.creates, ...row.claims })} | ${notes.filter(Boolean).join(', ')} |`;
  };
  const kinds = (of: string): string =>
    (Object.keys(DISPOSITION) as TokenKind[]).filter((kind) => DISPOSITION[kind] === of).join(', ');
  return `# Endpoints

Written by \`scripts/generate-endpoints.ts\` from the types of the \`plaid\` npm package ${version}; a test compares.
${rows.length} endpoints. Every other path is refused with \`ENDPOINT_UNLISTED\`; \`endpoints\` in the configuration declares more.

- **class**: what a policy grants.
- **effect**: \`read\` may be sent again when the connection broke; nothing else is.
- **reach**: \`own\` must name a handle or subject, all of them the caller's; \`open\` may name none; \`client\` reaches across the whole Plaid client and needs a grant of its path.
- **tokens in, tokens out**: where tokens stand. Vaulted, an application holds a handle: ${kinds('vaulted')}. Released by policy: ${kinds('released')}. Passed through: ${kinds('pass')}.
- **subjects**: what the request points at, which must be the caller's. **teaches**: what belongs to the caller after the call succeeded.

| endpoint | class | effect | reach | tokens in | tokens out | subjects | teaches | notes |
|---|---|---|---|---|---|---|---|---|
${rows.map(line).join('\n')}
`;
}

function main(): number {
  const outcome = deriveRows();
  for (const problem of outcome.problems) console.error(problem);
  if (outcome.problems.length > 0) return 1;
  const files = [
    [GENERATED, renderTable(outcome)],
    [DOCUMENT, renderDocument(outcome)],
  ] as const;
  if (!process.argv.includes('--check')) {
    for (const [file, text] of files) writeFileSync(file, text);
    return 0;
  }
  const stale = files.filter(([file, text]) => readFileSync(file, 'utf8') !== text);
  for (const [file] of stale) console.error(`${file} is not what the generator writes`);
  return stale.length > 0 ? 1 : 0;
}

if (import.meta.main) process.exitCode = main();
