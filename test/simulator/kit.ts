/** A simulator with the official SDK pointed at it, and how its errors are read. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { Configuration, CountryCode, PlaidApi, Products } from 'plaid';
import { type Simulator, type SimulatorOptions, startSimulator } from '../../simulator/start.ts';

export { CountryCode, Products };

/** A clock that stands still until it is moved. */
export function stoppedClock(start = Date.UTC(2026, 5, 1, 12)): { now(): number; move(ms: number): void } {
  let at = start;
  return {
    now: () => at,
    move(ms) {
      at += ms;
    },
  };
}

export interface Kit {
  readonly simulator: Simulator;
  readonly plaid: PlaidApi;
}

export async function start(t: TestContext, options: SimulatorOptions = {}): Promise<Kit> {
  const simulator = await startSimulator({ seed: t.name, ...options });
  t.after(() => simulator.close());
  return { simulator, plaid: sdk(simulator) };
}

export function sdk({ url, clientId, secret }: Pick<Simulator, 'url' | 'clientId' | 'secret'>): PlaidApi {
  const headers = { 'PLAID-CLIENT-ID': clientId, 'PLAID-SECRET': secret };
  return new PlaidApi(new Configuration({ basePath: url, baseOptions: { headers } }));
}

export interface Linked {
  readonly accessToken: string;
  readonly itemId: string;
}

export async function link(
  plaid: PlaidApi,
  products = [Products.Auth, Products.Transactions],
  webhook?: string,
  userToken?: string,
): Promise<Linked> {
  const made = await plaid.sandboxPublicTokenCreate({
    institution_id: 'ins_109508',
    initial_products: products,
    ...(webhook === undefined ? {} : { options: { webhook } }),
    ...(userToken === undefined ? {} : { user_token: userToken }),
  });
  const { data } = await plaid.itemPublicTokenExchange({ public_token: made.data.public_token });
  return { accessToken: data.access_token, itemId: data.item_id };
}

/** Asserts that a call fails with one of Plaid's errors, in Plaid's shape. Returns the body. */
export async function refused(call: Promise<unknown>, code: string, status = 400): Promise<Record<string, unknown>> {
  const error = await call.then(
    () => assert.fail(`expected ${code}, but the call succeeded`),
    (thrown: unknown) => thrown as { response?: { status: number; data: Record<string, unknown> } },
  );
  assert.ok(error.response !== undefined, `expected ${code}, but there was no answer: ${String(error)}`);
  const { data } = error.response;
  assert.equal(data.error_code, code);
  assert.equal(error.response.status, status);
  for (const field of ['error_type', 'error_message', 'documentation_url'])
    assert.equal(typeof data[field], 'string', field);
  assert.match(String(data.request_id), /^[A-Za-z0-9]{15}$/);
  assert.ok('display_message' in data);
  return data;
}

/** Asserts that a call ends without an answer. */
export async function cutOff(call: Promise<unknown>): Promise<void> {
  const error = await call.then(
    () => assert.fail('expected the connection to end, but there was an answer'),
    (thrown: unknown) => thrown as { response?: unknown; code?: string },
  );
  assert.equal(error.response, undefined, 'expected no answer');
  assert.match(String(error.code), /ECONNRESET|ECONNABORTED|ERR_BAD_RESPONSE|EPIPE/);
}

/** A call with full control over path, headers and bytes. */
export async function raw(
  simulator: Simulator,
  path: string,
  body: string | Buffer,
  headers: Record<string, string> = {},
): Promise<{ status: number; json: Record<string, unknown> }> {
  const answer = await fetch(simulator.url + path, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'plaid-client-id': simulator.clientId,
      'plaid-secret': simulator.secret,
      ...headers,
    },
    body,
  });
  return { status: answer.status, json: (await answer.json()) as Record<string, unknown> };
}

export interface Truth {
  readonly items: {
    item_id: string;
    access_token_sha256: string | null;
    state: string;
    rotations: number;
    error_code: string | null;
  }[];
  readonly calls: {
    seq: number;
    endpoint: string;
    credentials_ok: boolean;
    token_sha256: string | null;
    done: boolean;
    status: number | null;
    fault: string | null;
    header_names: string[];
    body_sha256: string | null;
  }[];
}

export const truth = ({ control }: Simulator): Promise<Truth> => control<Truth>('GET', '/truth');
