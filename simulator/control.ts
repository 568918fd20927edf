/**
 * The control API: plays the bank, the user and the network, and tells what is
 * really so. Loopback only, bearer token, and the Host header must name the
 * loopback address, so that no web page can reach it through a rebound name.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { ControlError, fieldsOf, parseFault } from './control-input.ts';
import type { DeliveryEngine, Quirks } from './delivery.ts';
import { isPlaidCode, PlaidFailure } from './errors.ts';
import type { Faults } from './faults.ts';
import { completeLink } from './link.ts';
import { DEFAULT_SETTINGS, type Item, type Settings } from './state.ts';
import { type CallLog, countGrants, renderItems } from './truth.ts';
import { rotateKeys } from './webhook-keys.ts';
import { webhookFields } from './webhooks.ts';
import type { World } from './world.ts';

const MOST_BODY = 32 * 1024 * 1024; // bytes: planted answers may be large

export interface ControlParts {
  readonly world: World;
  readonly faults: Faults;
  readonly log: CallLog;
  readonly delivery: DeliveryEngine;
  readonly token: string;
  readonly saved: () => Promise<void>;
}

type Input = Readonly<Record<string, unknown>>;
type Route = (parts: ControlParts, input: Input, path: readonly string[], query: URLSearchParams) => unknown;

export function controlServer(parts: ControlParts): Server {
  return createServer((request, response) => {
    answer(parts, request, response).catch((error: unknown) => {
      if (error instanceof ControlError)
        return reply(response, error.status, { error: error.code, message: error.message });
      if (error instanceof PlaidFailure) return reply(response, 400, { error: error.code, message: error.message });
      reply(response, 500, { error: 'INTERNAL', message: String(error) });
    });
  });
}

async function answer(parts: ControlParts, request: IncomingMessage, response: ServerResponse): Promise<void> {
  checkHost(request);
  checkToken(request, parts.token);
  const url = new URL(request.url ?? '/', 'http://control');
  const path = url.pathname.split('/').filter((part) => part !== '');
  const pattern = `${request.method} /${path.map((part, index) => (index === 1 && NAMED.has(path[0] as string) ? '*' : part)).join('/')}`;
  const route = CONTROL_ROUTES[pattern];
  if (route === undefined) throw new ControlError(404, 'NOT_FOUND', `there is no ${request.method} ${url.pathname}`);
  const result = await route(parts, await readInput(request), path, url.searchParams);
  if (request.method !== 'GET') await parts.saved();
  reply(response, 200, result);
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  response.end(JSON.stringify(body));
}

function checkHost(request: IncomingMessage): void {
  const port = request.socket.localPort;
  const allowed = [`127.0.0.1:${port}`, `localhost:${port}`, `[::1]:${port}`];
  if (!allowed.includes(request.headers.host ?? ''))
    throw new ControlError(403, 'HOST_REFUSED', 'the Host header must name the loopback address');
}

function checkToken(request: IncomingMessage, token: string): void {
  // Hashed first: equal lengths for the constant-time comparison.
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  if (!timingSafeEqual(digest(request.headers.authorization ?? ''), digest(`Bearer ${token}`))) {
    throw new ControlError(401, 'UNAUTHORIZED', 'send Authorization: Bearer with the control token');
  }
}

async function readInput(request: IncomingMessage): Promise<Input> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += (chunk as Buffer).length;
    if (size > MOST_BODY) throw new ControlError(413, 'TOO_LARGE', 'the body is too large');
    chunks.push(chunk as Buffer);
  }
  if (size === 0) return {};
  try {
    const value: unknown = JSON.parse(Buffer.concat(chunks).toString());
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Input;
  } catch {
    // answered below
  }
  throw new ControlError(400, 'INVALID', 'the body must be a JSON object');
}

function itemAt(parts: ControlParts, path: readonly string[]): Item {
  const item = parts.world.state.items.get(path[1] as string);
  if (item === undefined) throw new ControlError(404, 'ITEM_UNKNOWN', 'there is no such item');
  return item;
}

const setFault: Route = ({ faults }, input) => ({ id: faults.plant(parseFault(input)) });

const truth: Route = ({ world, log }, _input, _path, query) => {
  const after = Number(query.get('after') ?? 0);
  return { items: renderItems(world), ...log.render(Number.isFinite(after) ? after : 0) };
};

const state: Route = ({ world, faults }) => ({
  environment: world.environment,
  now: new Date(world.now()).toISOString(),
  clock_offset_ms: world.clockOffset,
  settings: world.settings,
  items: world.state.items.size,
  users: world.state.users.size,
  tokens: countGrants(world),
  clients: [...world.state.clients.keys()],
  webhook_keys: [...world.state.webhookKeys.values()].map((key) => ({ kid: key.kid, expired: key.expiredAt !== null })),
  faults: faults.list().length,
  held: faults.heldCalls(),
});

const setSettings: Route = ({ world }, input) => {
  for (const [name, value] of Object.entries(input)) {
    const known =
      Object.hasOwn(DEFAULT_SETTINGS, name) && typeof value === typeof DEFAULT_SETTINGS[name as keyof Settings];
    if (!known) throw new ControlError(400, 'INVALID', `${name} is not a setting, or has the wrong type`);
    const choices = CHOICES[name];
    if (choices !== undefined && !choices.includes(value as string))
      throw new ControlError(400, 'INVALID', `${name} takes one of ${choices.join(', ')}`);
  }
  Object.assign(world.settings, input);
  return world.settings;
};

const CHOICES: Readonly<Record<string, readonly string[]>> = {
  secondExchange: ['same', 'replace'],
  webhooks: ['none', 'loopback', 'any'],
};

const moveClock: Route = ({ world, delivery }, input) => {
  const {
    offset_ms: offset,
    advance_ms: advance,
    now,
  } = fieldsOf(input, { offset_ms: 'number', advance_ms: 'number', now: 'string' });
  if (typeof now === 'string') {
    const at = Date.parse(now);
    if (Number.isNaN(at)) throw new ControlError(400, 'INVALID', 'now must be an ISO 8601 time');
    world.clockOffset += at - world.now();
  } else if (typeof advance === 'number') world.clockOffset += advance;
  else if (typeof offset === 'number') world.clockOffset = offset;
  else throw new ControlError(400, 'INVALID', 'give offset_ms, advance_ms or now');
  world.settleTime();
  delivery.wake();
  return { now: new Date(world.now()).toISOString(), clock_offset_ms: world.clockOffset };
};

const fireWebhook: Route = ({ world, delivery }, input) => {
  const fields = fieldsOf(input, {
    item_id: 'string',
    url: 'string',
    webhook_type: 'string',
    webhook_code: 'string',
    payload: 'object',
    duplicate: 'any',
    stale_iat: 'any',
    wrong_key: 'boolean',
    unknown_kid: 'boolean',
    tamper: 'boolean',
    unsigned: 'boolean',
  });
  const item = typeof fields.item_id === 'string' ? world.state.items.get(fields.item_id) : undefined;
  if (typeof fields.item_id === 'string' && item === undefined)
    throw new ControlError(404, 'ITEM_UNKNOWN', 'there is no such item');
  const url = fields.url ?? item?.webhook;
  if (typeof url !== 'string' || !URL.canParse(url))
    throw new ControlError(400, 'INVALID', 'the item has no webhook URL, and none was given');
  const type = String(fields.webhook_type ?? 'ITEM');
  const code = String(fields.webhook_code ?? 'ERROR');
  const count = (value: unknown, otherwise: number): number =>
    value === true ? otherwise : typeof value === 'number' ? value : 0;
  const quirks: Quirks = {
    duplicates: count(fields.duplicate, 1),
    staleSeconds: count(fields.stale_iat, 600),
    wrongKey: fields.wrong_key === true,
    unknownKid: fields.unknown_kid === true,
    tamper: fields.tamper === true,
    unsigned: fields.unsigned === true,
  };
  const payload = {
    environment: world.environment,
    webhook_type: type,
    webhook_code: code,
    ...(item === undefined ? {} : { item_id: item.id, ...webhookFields(item, type, code, world.now()) }),
    ...(fields.payload as Input | undefined),
  };
  const clientId = item?.clientId ?? (world.state.clients.keys().next().value as string);
  return { webhook_message_id: delivery.send({ url, clientId, itemId: item?.id ?? null, payload }, quirks) };
};

const rotateWebhookKeys: Route = ({ world }, input) => {
  const { grace_seconds: grace } = fieldsOf(input, { grace_seconds: 'number' });
  return { kid: rotateKeys(world, typeof grace === 'number' ? grace : 0).kid };
};

const finishLink: Route = ({ world }, input) => {
  const fields = fieldsOf(input, {
    link_token: 'string',
    institution_id: 'string',
    username: 'string',
    password: 'string',
  });
  const text = (name: string, value: unknown): Record<string, string> =>
    typeof value === 'string' ? { [name]: value } : {};
  const outcome = completeLink(world, String(fields.link_token ?? ''), {
    ...text('institutionId', fields.institution_id),
    ...text('username', fields.username),
    ...text('password', fields.password),
  });
  return { public_token: outcome.publicToken, item_id: outcome.itemId, link_session_id: outcome.sessionId };
};

const breakItem: Route = (parts, input, path) => {
  const fields = fieldsOf(input, { error_code: 'string', reason: 'string' });
  const code = String(fields.error_code ?? 'ITEM_LOGIN_REQUIRED');
  if (!isPlaidCode(code)) throw new ControlError(400, 'INVALID', `${code} is not an error that the simulator knows`);
  const item = itemAt(parts, path);
  parts.world.breakLogin(item, code, typeof fields.reason === 'string' ? fields.reason : null);
  return { item_id: item.id, error: item.error };
};

/** The user repaired the login elsewhere: no update mode of ours, but a webhook. */
const repairItem: Route = (parts, _input, path) => {
  const item = itemAt(parts, path);
  item.error = null;
  parts.world.itemWebhook(item, 'ITEM', 'LOGIN_REPAIRED');
  return { item_id: item.id };
};

/** By method and path; `*` is a name. docs/simulator.md lists them, and a test compares. */
export const CONTROL_ROUTES: Readonly<Record<string, Route>> = {
  'GET /health': () => ({ ok: true }),
  'GET /truth': truth,
  'GET /state': state,
  'GET /settings': ({ world }) => world.settings,
  'POST /settings': setSettings,
  'GET /faults': ({ faults }) => ({ faults: faults.list(), held: faults.heldCalls() }),
  'POST /faults': setFault,
  'DELETE /faults': ({ faults }) => ({ cleared: faults.clear() }),
  'DELETE /faults/*': ({ faults }, _input, path) => ({ cleared: faults.clear(path[1]) }),
  'POST /release': ({ faults }, input) => {
    const { id, how } = fieldsOf(input, { id: 'string', how: 'string' });
    if (how !== undefined && how !== 'continue' && how !== 'destroy')
      throw new ControlError(400, 'INVALID', 'how takes continue or destroy');
    return { released: faults.release(typeof id === 'string' ? id : null, how ?? 'continue') };
  },
  'POST /items/*/complete-update-mode': (parts, _input, path) => {
    const item = itemAt(parts, path);
    parts.world.completeUpdateMode(item);
    return { item_id: item.id, error: null };
  },
  'POST /items/*/error': breakItem,
  'POST /items/*/repair': repairItem,
  'POST /items/*/revoke': (parts, _input, path) => {
    // The user took access away at the bank or at my.plaid.com: the item is gone for good.
    parts.world.remove(itemAt(parts, path));
    return { item_id: path[1], state: 'removed' };
  },
  'POST /link/complete': finishLink,
  'POST /webhooks/fire': fireWebhook,
  'POST /webhooks/hold': ({ delivery }) => {
    delivery.hold();
    return { held: true };
  },
  'POST /webhooks/release': ({ delivery }, input) => {
    const { order } = fieldsOf(input, { order: 'string' });
    return { released: delivery.release(order === 'reverse' ? 'reverse' : 'sent') };
  },
  'POST /webhook-keys/rotate': rotateWebhookKeys,
  'GET /clock': ({ world }) => ({ now: new Date(world.now()).toISOString(), clock_offset_ms: world.clockOffset }),
  'POST /clock': moveClock,
  'POST /clients': ({ world }) => {
    const client = world.addClient();
    return { client_id: client.id, secret: client.secrets[0] };
  },
  'POST /clients/*/secrets': ({ world }, _input, path) => {
    const client = world.state.clients.get(path[1] as string);
    if (client === undefined) throw new ControlError(404, 'CLIENT_UNKNOWN', 'there is no such client');
    const secret = world.mint.lower(30);
    client.secrets.push(secret);
    return { secret };
  },
  'DELETE /clients/*/secrets': ({ world }, _input, path) => {
    const client = world.state.clients.get(path[1] as string);
    if (client === undefined) throw new ControlError(404, 'CLIENT_UNKNOWN', 'there is no such client');
    const before = client.secrets.length;
    client.secrets = client.secrets.slice(-1);
    return { removed: before - 1 };
  },
};

/** Paths whose second part is a name. */
const NAMED = new Set(['items', 'clients', 'faults']);
