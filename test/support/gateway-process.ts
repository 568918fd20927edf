import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type App, app, type Kit } from './strongroom.ts';

/** A gateway in a process of its own, on the database and home of a kit that runs the other roles. */
export interface GatewayProcess {
  readonly url: string;
  readonly process: ChildProcess;
  /** The same application, called through this gateway. */
  app(of: App): App;
  /** Runs `work` and returns by how many bytes the process grew at most meanwhile. */
  growth(work: () => Promise<void>): Promise<number>;
  /** What it has logged. */
  log(): string;
  alive(): boolean;
  stop(): Promise<void>;
}

let started = 0;

/** @param over - Laid over the kit's limits and upstream. */
export async function gatewayProcess(
  t: { after(stop: () => Promise<void>): void },
  kit: Kit,
  over: { readonly limits?: Partial<Kit['config']['limits']>; readonly upstream?: string } = {},
): Promise<GatewayProcess> {
  const name = `gateway-${++started}`;
  const log = join(kit.home, `${name}.log`);
  const settings = join(kit.home, `${name}.json`);
  const { password, ...connection } = kit.database.connection('gateway');
  const { limits, plaid } = kit.config;
  writeFileSync(log, '');
  writeFileSync(
    settings,
    JSON.stringify({
      config: {
        ...kit.config,
        limits: { ...limits, ...over.limits },
        plaid: { ...plaid, upstream: over.upstream ?? plaid.upstream },
      },
      connection: { ...connection, password: password.reveal() },
      log,
    }),
    { mode: 0o600 },
  );
  // As bin/strongroom starts it, and with a way to collect before memory is looked at.
  const flags = ['--disable-sigusr1', '--max-semi-space-size=12', '--heap-growing-percent=110', '--expose-gc'];
  const child = spawn(process.execPath, [...flags, `${import.meta.dirname}/gateway-child.ts`, settings], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, MALLOC_ARENA_MAX: '1' },
  });
  const ended = once(child, 'exit');
  t.after(async () => {
    child.kill('SIGKILL');
    await ended;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async <T>(): Promise<T> => {
    const { done, value } = await lines.next();
    if (done === true) assert.fail(`the gateway ended: ${readFileSync(log, 'utf8').slice(-2_000)}`);
    return JSON.parse(value) as T;
  };
  const peak = () => {
    child.stdin.write('peak\n');
    return next<{ rss: number; peak: number }>();
  };

  const { url } = await next<{ url: string }>();
  return {
    url,
    process: child,
    app: (of) => app(() => url, of.id, of.key),
    async growth(work) {
      const { rss } = await peak();
      await work();
      return (await peak()).peak - rss;
    },
    log: () => readFileSync(log, 'utf8'),
    alive: () => child.exitCode === null && child.signalCode === null,
    async stop() {
      child.stdin.end();
      await ended;
    },
  };
}
