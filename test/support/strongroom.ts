import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Configuration, PlaidApi } from 'plaid';
import { request } from 'undici';
import { type Simulator, type SimulatorOptions, startSimulator } from '../../simulator/start.ts';
import type { Policy } from '../../src/access/policy.ts';
import { ANYWHERE, presetPolicy } from '../../src/access/presets.ts';
import { parseEntry } from '../../src/audit/entry.ts';
import { readGroup } from '../../src/audit/group.ts';
import { type Config, DEV_CLIENT_ID, DEV_FILES, devConfig } from '../../src/config.ts';
import { createKekFile } from '../../src/envelope/kms-file.ts';
import { ROLES, type Role, type Strongroom, startStrongroom } from '../../src/main.ts';
import { createLog } from '../../src/redaction/logger.ts';
import type { ConnectionOptions } from '../../src/store/connection.ts';
import { type TestDatabase, testDatabase } from './database.ts';

/**
 * A whole Strongroom for a test: real database, real listeners, the simulator as
 * Plaid, all in this process and gone with the test.
 */

export interface Kit {
  readonly url: string;
  readonly simulator: Simulator;
  readonly database: TestDatabase;
  readonly home: string;
  readonly config: Config;
  /** Lines of the log so far. */
  readonly log: string[];
  /** Adds an application; `policy` is laid over the preset `demo`. */
  application(name?: string, policy?: Partial<Policy>): Promise<App>;
  admin<T = Record<string, unknown>>(method: 'GET' | 'POST' | 'PUT', path: string, body?: unknown): Promise<T>;
  /** Audit entries of a kind (or all), with their fields, in no order over writers. */
  entries(kind?: string): Promise<Record<string, unknown>[]>;
  /** Calls that reached the simulator, by path. */
  reached(): Promise<string[]>;
  stop(): Promise<void>;
  /** Starts again on the same database and home. */
  start(): Promise<void>;
}

export interface App {
  readonly id: string;
  readonly key: string;
  /** The official SDK, pointed at the gateway. */
  readonly plaid: PlaidApi;
  /** A call without SDK: status, headers and JSON (or text) of the answer. */
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>;
  /** Links a bank and returns the handle. */
  link(products?: string[]): Promise<{ handle: string; itemId: string; publicToken: string }>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly body: Record<string, unknown>;
  readonly text: string;
}

export interface KitOptions {
  readonly simulator?: SimulatorOptions;
  /** Laid over the configuration of `strongroom dev`, section by section. */
  readonly config?: { [S in keyof Config]?: Partial<Config[S]> };
  readonly roles?: readonly Role[];
  /** Origin to call in place of the simulator. */
  readonly upstream?: string;
  /** Another way to the database for a role: a wire that the test can cut, for one. */
  readonly connection?: (role: Role, direct: ConnectionOptions) => ConnectionOptions;
}

export async function strongroom(t: { after(fn: () => Promise<void>): void }, options: KitOptions = {}): Promise<Kit> {
  const home = mkdtempSync(join(tmpdir(), 'strongroom-kit-'));
  mkdirSync(join(home, 'secrets'), { mode: 0o700 });
  const secret = randomBytes(15).toString('hex');
  const adminToken = randomBytes(32).toString('base64url');
  const file = (name: string, text: string) => writeFileSync(join(home, name), text, { mode: 0o600 });
  file(DEV_FILES.plaidSecret, secret);
  file(DEV_FILES.adminToken, adminToken);
  file(
    DEV_FILES.signingKey,
    generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  );
  await createKekFile(join(home, DEV_FILES.kek));

  const simulator = await startSimulator({ clientId: DEV_CLIENT_ID, secret, ...options.simulator });
  const database = await testDatabase();
  const config = overlay(devConfig(home, 0, options.upstream ?? simulator.url), options.config ?? {});
  const log: string[] = [];
  let running: Strongroom | null = null;

  const start = async () => {
    running = await startStrongroom({
      config,
      roles: options.roles ?? ROLES,
      connection: (role) => options.connection?.(role, database.connection(role)) ?? database.connection(role),
      log: createLog({ write: (line: string) => void log.push(line) }),
    });
  };
  const stop = async () => {
    await running?.stop();
    running = null;
  };
  t.after(async () => {
    await stop();
    await simulator.close();
    await database.close();
    rmSync(home, { recursive: true, force: true });
  });
  await start();

  const admin = async <T>(method: 'GET' | 'POST' | 'PUT', path: string, body?: unknown): Promise<T> => {
    const answer = await request(`${running?.adminUrl}${path}`, {
      method,
      headers: {
        authorization: `Bearer ${adminToken}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const json = await answer.body.json();
    assert.ok(answer.statusCode < 300, `${method} ${path}: ${answer.statusCode} ${JSON.stringify(json)}`);
    return json as T;
  };

  let made = 0;
  const kit: Kit = {
    get url() {
      return running?.gatewayUrl as string;
    },
    simulator,
    database,
    home,
    config,
    log,
    admin,
    start,
    stop,
    async application(name = `app ${++made}`, policy = {}) {
      const { application, key } = await admin<{ application: { application_id: string }; key: string }>(
        'POST',
        '/applications',
        { name, policy: { ...presetPolicy('demo', ANYWHERE), rate: { perSecond: 10_000, burst: 10_000 }, ...policy } },
      );
      return app(() => kit.url, application.application_id, key);
    },
    async entries(kind) {
      const owner = await database.open('owner', { poolSize: 1 });
      const read = async () =>
        (
          await owner.sql.query<Parameters<typeof readGroup>[0]>(
            `select w.deployment, w.writer, g.first_n as "firstN", g.count, g.prev, g.hashes, g.entries
               from audit_groups g join audit_writers w on w.id = g.writer order by g.writer, g.first_n`,
          )
        ).rows;
      try {
        let rows = await read();
        // Outcomes wait a little for a caller's entry to travel with.
        for (let before = -1; rows.length !== before; rows = await read()) {
          before = rows.length;
          await sleep(35);
        }
        return rows
          .flatMap((row) => readGroup(row) ?? assert.fail('a group of entries that cannot be read'))
          .map(({ text }) => parseEntry(text) ?? assert.fail('an entry that cannot be read'))
          .map((entry) => ({ kind: entry.kind, ...entry.fields }))
          .filter((entry) => kind === undefined || entry.kind === kind);
      } finally {
        await owner.close();
      }
    },
    async reached() {
      const { calls } = await simulator.control<{ calls: { endpoint: string }[] }>('GET', '/truth');
      return calls.map(({ endpoint }) => endpoint);
    },
    // The getters above must stay getters: a restart changes the URL.
  };
  return kit;
}

export function app(url: () => string, id: string, key: string): App {
  const headers = { 'PLAID-CLIENT-ID': id, 'PLAID-SECRET': key };
  const plaid = () => new PlaidApi(new Configuration({ basePath: url(), baseOptions: { headers } }));
  const post: App['post'] = (path, body, extra = {}) => send(url(), path, body, { ...headers, ...extra });
  return {
    id,
    key,
    get plaid() {
      return plaid();
    },
    post,
    async link(products = ['transactions']) {
      const created = await post('/sandbox/public_token/create', {
        institution_id: 'ins_109508',
        initial_products: products,
      });
      assert.equal(created.status, 200, created.text);
      const publicToken = String(created.body.public_token);
      const exchanged = await post('/item/public_token/exchange', { public_token: publicToken });
      assert.equal(exchanged.status, 200, exchanged.text);
      return { handle: String(exchanged.body.access_token), itemId: String(exchanged.body.item_id), publicToken };
    },
  };
}

export async function send(
  url: string,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Answer> {
  const answer = await request(url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
  });
  const text = await answer.body.text();
  let json: Record<string, unknown> = {};
  try {
    json = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // Binary, or cut: the caller looks at the text.
  }
  return { status: answer.statusCode, headers: answer.headers, body: json, text };
}

function overlay(base: Config, over: NonNullable<KitOptions['config']>): Config {
  const config = structuredClone(base) as Record<string, unknown>;
  for (const [section, values] of Object.entries(over)) {
    const before = config[section];
    config[section] = Array.isArray(values) ? values : { ...(before as object), ...values };
  }
  return config as Config;
}

/** Asserts one of our refusals, in Plaid's shape. */
export function refusedWith(answer: Answer, code: string, status?: number): void {
  assert.equal(answer.body.error_code, code, answer.text);
  assert.equal(answer.body.error_type, 'STRONGROOM_ERROR');
  assert.equal(answer.body.display_message, null);
  assert.match(String(answer.body.error_message), /\S/);
  assert.match(String(answer.body.request_id), /^[A-Za-z0-9]{15}$/);
  if (status !== undefined) assert.equal(answer.status, status);
}
