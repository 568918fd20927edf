import { rm, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { type Simulator, type SimulatorOptions, startSimulator } from '../../simulator/start.ts';
import { StrongroomError } from '../base/errors.ts';
import type { Command } from './command.ts';

const USAGE = `usage: strongroom simulate --port N [options]

Runs an offline Plaid. Point an official Plaid SDK at the URL it prints.

  --port N                port of the Plaid API (0 = a free one)
  --control-port N        port of the control API (default 0)
  --host ADDRESS          address of the Plaid API (default 127.0.0.1)
  --environment NAME      sandbox (default) or production
  --state FILE            keep items and tokens in FILE (mode 0600) over restarts
  --seed TEXT             same seed, same calls: same ids and tokens
  --webhooks WHERE        none, loopback (default) or any
  --rate-limits           answer 429 past Plaid's published limits
  --ready-after MS        how long products need after linking (default 0)
  --control-token-file F  write the control token to F (0600) instead of printing it
  --json                  print one line of JSON
  --help

The client id, the secret and every token are fake: they open nothing but this
simulator. docs/simulator.md describes the control API.
`;

/** Needs nothing of ours to run: no configuration, no database. */
export const simulate: Command = {
  name: 'simulate',
  summary: 'Run an offline Plaid for tests and trials.',
  usage: USAGE,
  run: (argv, io) => runSimulator(argv, io, untilSignal),
};

/** The command with its end as a parameter, for tests. */
export async function runSimulator(
  argv: string[],
  { stdout, stderr }: Parameters<Command['run']>[1],
  stopped: () => Promise<void>,
): ReturnType<Command['run']> {
  const { values } = parse(argv);
  if (values.help) {
    stdout.write(USAGE);
    return 'ok';
  }
  const options = optionsOf(values);
  let simulator: Simulator;
  try {
    simulator = await startSimulator(options);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EADDRINUSE' || code === 'EACCES')
      throw new StrongroomError('LISTEN_FAILED', { port: options.port ?? 0 }, error);
    stderr.write(`strongroom simulate: ${(error as Error).message}\n`);
    return 'failed';
  }
  const tokenFile = values['control-token-file'];
  if (tokenFile !== undefined) {
    // Made anew: an older file would keep its mode.
    await rm(tokenFile, { force: true });
    await writeFile(tokenFile, `${simulator.controlToken}\n`, { mode: 0o600, flag: 'wx' });
  }
  stdout.write(
    values.json ? `${JSON.stringify(summaryOf(simulator, tokenFile))}\n` : describe(simulator, options, tokenFile),
  );
  await stopped();
  await simulator.close();
  return 'ok';
}

const usage = (detail: string): StrongroomError => new StrongroomError('USAGE', { detail });

function parse(argv: string[]) {
  return parseArgs({
    args: argv,
    options: {
      port: { type: 'string' },
      'control-port': { type: 'string' },
      host: { type: 'string' },
      environment: { type: 'string' },
      state: { type: 'string' },
      seed: { type: 'string' },
      webhooks: { type: 'string' },
      'rate-limits': { type: 'boolean', default: false },
      'ready-after': { type: 'string' },
      'control-token-file': { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
}

function optionsOf(values: ReturnType<typeof parse>['values']): SimulatorOptions {
  if (values.port === undefined) throw usage('--port is missing.');
  const { environment = 'sandbox', webhooks = 'loopback' } = values;
  if (environment !== 'sandbox' && environment !== 'production')
    throw usage('--environment takes sandbox or production.');
  if (webhooks !== 'none' && webhooks !== 'loopback' && webhooks !== 'any')
    throw usage('--webhooks takes none, loopback or any.');
  return {
    port: whole('--port', values.port, 65_535),
    controlPort: whole('--control-port', values['control-port'] ?? '0', 65_535),
    environment,
    ...(values.host === undefined ? {} : { host: values.host }),
    ...(values.state === undefined ? {} : { stateFile: values.state }),
    ...(values.seed === undefined ? {} : { seed: values.seed }),
    settings: {
      webhooks,
      rateLimits: values['rate-limits'],
      readyAfterMs: whole('--ready-after', values['ready-after'] ?? '0', Number.MAX_SAFE_INTEGER),
    },
  };
}

function whole(name: string, text: string, most: number): number {
  if (!/^\d+$/.test(text) || Number(text) > most) throw usage(`${name} takes a whole number up to ${most}.`);
  return Number(text);
}

function summaryOf(simulator: Simulator, tokenFile: string | undefined): Record<string, unknown> {
  const { url, controlUrl, controlToken, clientId, secret } = simulator;
  return {
    url,
    controlUrl,
    ...(tokenFile === undefined ? { controlToken } : { controlTokenFile: tokenFile }),
    clientId,
    secret,
  };
}

function describe(simulator: Simulator, options: SimulatorOptions, tokenFile: string | undefined): string {
  return `offline Plaid (${options.environment}) is running; stop it with Ctrl-C

  Plaid API      ${simulator.url}
  client_id      ${simulator.clientId}
  secret         ${simulator.secret}   (fake: it opens nothing but this simulator)
  control API    ${simulator.controlUrl}
  control token  ${tokenFile === undefined ? simulator.controlToken : `in ${tokenFile}`}
  state          ${options.stateFile ?? 'in memory only'}

try:
  curl -s ${simulator.url}/sandbox/public_token/create -H 'Content-Type: application/json' \\
    -H 'PLAID-CLIENT-ID: ${simulator.clientId}' -H 'PLAID-SECRET: ${simulator.secret}' \\
    -d '{"institution_id":"ins_109508","initial_products":["transactions"]}'
`;
}

function untilSignal(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
}
