import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { request } from 'undici';
import type { Simulator } from '../../simulator/start.ts';
import { ANYWHERE, presetPolicy } from '../access/presets.ts';
import { StrongroomError } from '../base/errors.ts';
import type { EmbeddedDatabase } from '../store/embedded.ts';
import { replaceFile } from '../store/home.ts';
import { openSession } from '../store/session.ts';
import { VERSION } from '../version.ts';
import { forPeople } from './audit.ts';

/**
 * What a newcomer sees first: an application that links a bank through the gateway
 * and only ever holds a handle. Everything goes over HTTP, the way an SDK goes.
 */

export interface Demo {
  readonly applicationId: string;
  readonly applicationKey: string;
  readonly handle: string;
  readonly itemId: string;
  readonly accounts: number;
}

interface Parts {
  readonly gatewayUrl: string;
  readonly adminUrl: string;
  readonly adminToken: string;
}

/** The shape of contracts: scripts read it. */
export type DevJson = ReturnType<typeof devJson>;

export function devJson(
  parts: { gatewayUrl: string; adminUrl: string; adminToken: string },
  demo: Demo,
  simulator: Simulator,
  database: EmbeddedDatabase,
) {
  return {
    gateway: { url: parts.gatewayUrl, applicationId: demo.applicationId, applicationKey: demo.applicationKey },
    admin: { url: parts.adminUrl, token: parts.adminToken },
    simulator: {
      url: simulator.url,
      controlUrl: simulator.controlUrl,
      controlToken: simulator.controlToken,
      clientId: simulator.clientId,
      secret: simulator.secret,
    },
    database: { url: database.url.reveal() },
    pid: process.pid,
    version: VERSION,
  };
}

const FILE = join('secrets', 'demo.json');

/** Makes the demo application and links its bank the first time; later finds them again. */
export async function linkDemo(home: string, parts: Parts): Promise<Demo> {
  const file = join(home, FILE);
  if (existsSync(file)) {
    const demo = JSON.parse(readFileSync(file, 'utf8')) as Demo;
    if (await works(parts, demo)) return demo;
  }
  const admin = (method: 'GET' | 'POST', path: string, body?: unknown) =>
    call(parts.adminUrl + path, method, { authorization: `Bearer ${parts.adminToken}` }, body);
  const { applications } = (await admin('GET', '/applications')) as {
    applications: { name: string; application_id: string; disabled_at: string | null }[];
  };
  // A demo whose key or item is gone is left as it is; a new one takes a new name.
  const taken = new Set(applications.map(({ name }) => name));
  let name = 'demo';
  for (let n = 2; taken.has(name); n++) name = `demo ${n}`;
  const made = (await admin('POST', '/applications', { name, policy: presetPolicy('demo', ANYWHERE) })) as {
    application: { application_id: string };
    key: string;
  };
  const credentials = { applicationId: made.application.application_id, applicationKey: made.key };

  const plaid = (path: string, body: object) =>
    call(parts.gatewayUrl + path, 'POST', headersOf(credentials), body) as Promise<Record<string, unknown>>;
  const { public_token } = await plaid('/sandbox/public_token/create', {
    institution_id: 'ins_109508',
    initial_products: ['transactions'],
  });
  const exchanged = await plaid('/item/public_token/exchange', { public_token });
  const handle = String(exchanged.access_token);
  const { accounts } = (await plaid('/accounts/get', { access_token: handle })) as { accounts: unknown[] };
  const demo: Demo = { ...credentials, handle, itemId: String(exchanged.item_id), accounts: accounts.length };
  replaceFile(file, `${JSON.stringify(demo)}\n`);
  return demo;
}

async function works(parts: Parts, demo: Demo): Promise<boolean> {
  try {
    await call(`${parts.gatewayUrl}/accounts/get`, 'POST', headersOf(demo), { access_token: demo.handle });
    return true;
  } catch {
    return false;
  }
}

function headersOf({ applicationId, applicationKey }: Pick<Demo, 'applicationId' | 'applicationKey'>) {
  return { 'plaid-client-id': applicationId, 'plaid-secret': applicationKey };
}

async function call(url: string, method: 'GET' | 'POST', headers: Record<string, string>, body?: unknown) {
  const answer = await request(url, {
    method,
    headers: body === undefined ? headers : { ...headers, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const json = (await answer.body.json()) as { error_code?: string; error_message?: string };
  if (answer.statusCode >= 300) {
    throw new StrongroomError('INTERNAL', {
      operation: new URL(url).pathname,
      detail: `The demo could not be made: ${json.error_code}: ${json.error_message}`,
    });
  }
  return json as unknown;
}

/** What is printed when everything is up. */
export async function summary(parts: {
  readonly home: string;
  readonly seconds: number;
  readonly demo: Demo;
  readonly description: DevJson;
  readonly database: EmbeddedDatabase;
}): Promise<string> {
  const { demo, description } = parts;
  const row = await sealedRow(parts.database, demo.itemId);
  const entries = await lastEntries(description, 5);
  const { url } = description.gateway;
  return `
Strongroom ${description.version} is up (${parts.seconds.toFixed(1)} s). Ctrl-C stops it; everything is kept in ${parts.home}

  gateway     ${url}    for applications, in place of Plaid
  admin API   ${description.admin.url}
  simulator   ${description.simulator.url}    an offline Plaid

A demo bank is linked (${demo.accounts} accounts). The application holds this handle, and nothing else:
  ${demo.handle}

The database holds this row (the token is sealed in it):
${row}
The audit log says of it (strongroom audit tail shows all):
${entries.map((entry) => `  ${entry}\n`).join('')}
Try it:
  curl -s ${url}/accounts/get \\
    -H 'Content-Type: application/json' \\
    -H 'PLAID-CLIENT-ID: ${demo.applicationId}' \\
    -H 'PLAID-SECRET: ${demo.applicationKey}' \\
    -d '{"access_token":"${demo.handle}"}'

Or with the official SDK: save as try.mjs in a folder where 'npm install plaid' was run, then 'node try.mjs':
  import { Configuration, PlaidApi } from 'plaid';
  const plaid = new PlaidApi(new Configuration({
    basePath: '${url}',
    baseOptions: { headers: {
      'PLAID-CLIENT-ID': '${demo.applicationId}',
      'PLAID-SECRET': '${demo.applicationKey}',
    } },
  }));
  const { data } = await plaid.transactionsSync({
    access_token: '${demo.handle}',
  });
  console.log(data.added.length, 'transactions');

Then:  bin/strongroom items list     bin/strongroom audit tail     bin/strongroom apps --help
`;
}

async function sealedRow(database: EmbeddedDatabase, itemId: string): Promise<string> {
  const session = await openSession(database.connection('superuser'));
  try {
    const { rows } = await session.sql.query<Record<string, string | number>>(
      `select record_id, kind, version, state, health, substr(encode(sealed, 'hex'), 1, 48) || '...' as sealed
         from strongroom.secrets where item_id = $1`,
      [itemId],
    );
    return rows
      .flatMap((row) => Object.entries(row).map(([name, value]) => `  ${name.padEnd(10)} ${value}\n`))
      .join('');
  } finally {
    await session.close();
  }
}

/** What the calls of the demo have left in the log, once it has its place there (within a second). */
async function lastEntries({ admin }: DevJson, count: number): Promise<string[]> {
  const lines: string[] = [];
  try {
    const answer = await request(`${admin.url}/audit/tail?from=-100`, {
      headers: { authorization: `Bearer ${admin.token}` },
      signal: AbortSignal.timeout(3_000),
    });
    let rest = '';
    for await (const chunk of answer.body) {
      const parts = (rest + String(chunk)).split('\n');
      rest = parts.pop() as string;
      lines.push(...parts.filter((line) => /"kind":"(access|exchange|record)\./.test(line)));
      if (lines.some((line) => line.includes('"/accounts/get"'))) break;
    }
  } catch {
    // Nothing has its place yet; `strongroom audit tail` shows it in a moment.
  }
  return lines.slice(-count).map(shorten);
}

/** One line of a terminal that is not very wide. */
function shorten(line: string): string {
  const text = forPeople(line).trim();
  return text.length <= 140 ? text : `${text.slice(0, 137)}...`;
}
