/**
 * Starts an offline Plaid: for `strongroom dev`, for tests, and alone by
 * `strongroom simulate`. Its tokens open nothing but itself. It is not built
 * to face a network: keep it on the loopback address.
 */
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../src/base/clock.ts';
import type { PlaidEnvironment } from '../src/base/ids.ts';
import { controlServer } from './control.ts';
import { startDelivery } from './delivery.ts';
import { Faults } from './faults.ts';
import { RateLimits } from './limits.ts';
import { Mint, seededStream, systemStream } from './random.ts';
import { plaidServer } from './server.ts';
import { DEFAULT_SETTINGS, emptyState, restoreState, type Settings, snapshot } from './state.ts';
import { loadState, stateFile } from './state-file.ts';
import { CallLog } from './truth.ts';
import { currentKey } from './webhook-keys.ts';
import { World } from './world.ts';

/** Changes when an older state file can no longer be read. */
const STATE_FORMAT = 1;

export interface SimulatorOptions {
  /** Port of Plaid's API. Default 0: a free one. */
  readonly port?: number;
  /** Port of the control API, always on 127.0.0.1. Default 0. */
  readonly controlPort?: number;
  /** Address of Plaid's API. Default 127.0.0.1. */
  readonly host?: string;
  /** Default `sandbox`. In `production` the /sandbox endpoints are refused; link with POST /link/complete. */
  readonly environment?: PlaidEnvironment;
  /** Same seed and same calls: same ids and tokens. Default: random. */
  readonly seed?: string;
  /** Default: the system's. POST /clock moves whichever it is. */
  readonly clock?: Pick<Clock, 'now'>;
  /** Keeps items and tokens over restarts; mode 0600. Default: nothing is kept. */
  readonly stateFile?: string;
  /** Default: minted, or taken from the state file. */
  readonly clientId?: string;
  readonly secret?: string;
  readonly controlToken?: string;
  readonly settings?: Partial<Settings>;
}

export interface Simulator {
  /** Base URL for a Plaid SDK. */
  readonly url: string;
  readonly controlUrl: string;
  readonly controlToken: string;
  readonly clientId: string;
  readonly secret: string;
  /** Calls the control API; throws when it answers with an error. */
  control<T = Record<string, unknown>>(method: 'GET' | 'POST' | 'DELETE', path: string, body?: unknown): Promise<T>;
  /** Resolves when no webhook is under way. */
  webhooksIdle(): Promise<void>;
  /** Ends connections and webhooks, saves the state, frees the ports. May be called twice. */
  close(): Promise<void>;
}

/** Throws when a port is taken or the state file is damaged or of another environment. */
export async function startSimulator(options: SimulatorOptions = {}): Promise<Simulator> {
  const environment = options.environment ?? 'sandbox';
  const saved = options.stateFile === undefined ? null : await loadState(options.stateFile);
  if (saved !== null && (saved.format !== STATE_FORMAT || saved.environment !== environment)) {
    throw new Error(`the simulator's state file ${options.stateFile} is of another version or Plaid environment`);
  }
  const stream =
    options.seed === undefined ? systemStream() : seededStream(options.seed, Number(saved?.mintPosition ?? 0));
  const world = new World({
    environment,
    state: saved === null ? emptyState() : restoreState(saved),
    settings: { ...DEFAULT_SETTINGS, ...options.settings },
    mint: new Mint(stream),
    clock: () => (options.clock ?? Date).now(),
  });
  world.clockOffset = Number(saved?.clockOffset ?? 0);
  const client = chooseClient(world, options);
  currentKey(world);

  const take = (): unknown => ({
    format: STATE_FORMAT,
    environment,
    mintPosition: stream.position(),
    clockOffset: world.clockOffset,
    ...snapshot(world.state),
  });
  const file = options.stateFile === undefined ? null : stateFile(options.stateFile, take);
  const save = (): Promise<void> => file?.save() ?? Promise.resolve();
  await save();

  const requestIds = new Mint(options.seed === undefined ? stream : seededStream(`${options.seed} requests`));
  const controlToken = options.controlToken ?? new Mint(systemStream()).base64url(32);
  const faults = new Faults();
  const log = new CallLog();
  const delivery = startDelivery(world, () => void save().catch(() => {}));
  world.emit = (webhook) => void delivery.send(webhook);

  const plaid = plaidServer({ world, faults, log, limits: new RateLimits(), requestIds, saved: save });
  const control = controlServer({ world, faults, log, delivery, token: controlToken, saved: save });
  const host = options.host ?? '127.0.0.1';
  const url = `http://${await listen(plaid, options.port ?? 0, host)}`;
  world.baseUrl = url;
  const controlUrl = `http://${await listen(control, options.controlPort ?? 0, '127.0.0.1').catch(
    async (error: unknown) => {
      await stop(plaid);
      throw error;
    },
  )}`;

  let closing: Promise<void> | null = null;
  return {
    url,
    controlUrl,
    controlToken,
    ...client,
    async control<T>(method: string, path: string, body?: unknown): Promise<T> {
      const answer = await fetch(controlUrl + path, {
        method,
        headers: { authorization: `Bearer ${controlToken}`, 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const value = (await answer.json()) as Record<string, unknown>;
      if (!answer.ok) throw new Error(`control ${method} ${path}: ${value.error}: ${value.message}`);
      return value as T;
    },
    webhooksIdle: () => delivery.idle(),
    // Once: a second save would put this state over that of a successor on the same file.
    close: () => (closing ??= close()),
  };

  async function close(): Promise<void> {
    faults.release(null, 'destroy');
    await Promise.all([stop(plaid), stop(control), delivery.close()]);
    await save();
  }
}

function chooseClient(world: World, options: SimulatorOptions): { clientId: string; secret: string } {
  const known =
    options.clientId === undefined
      ? world.state.clients.values().next().value
      : world.state.clients.get(options.clientId);
  const client = known ?? world.addClient(options.clientId, options.secret);
  if (options.secret !== undefined && !client.secrets.includes(options.secret)) client.secrets.push(options.secret);
  return { clientId: client.id, secret: options.secret ?? (client.secrets.at(-1) as string) };
}

function listen(server: Server, port: number, host: string): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      const { address, port: bound, family } = server.address() as AddressInfo;
      resolve(family === 'IPv6' ? `[${address}]:${bound}` : `${address}:${bound}`);
    });
  });
}

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
