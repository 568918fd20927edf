/**
 * The gateway under load: one gateway process with every feature on (admission
 * made durable, policy, quota, budgets, opening, scanning, log), a real PostgreSQL
 * with fsync on the same processors, a native upstream (nginx) and a native load
 * generator (wrk). Needs Debian's nginx and wrk.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { app as client } from '../test/support/strongroom.ts';
import { type Setup, setUp } from './gateway-setup.ts';
import type { BenchResult, Goal } from './run.ts';

export const name = 'gateway';

const SECONDS = Number(process.env.BENCH_SECONDS ?? 8);
const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 3);
const CONNECTIONS = 32;
/** BENCH_QUICK=1: only the 2 KB rounds, for work on the hot path. */
const QUICK = process.env.BENCH_QUICK === '1';

interface Measured {
  readonly perSecond: number;
  /** CPU time of the measured process for one call, in microseconds. */
  readonly cpuUs: number;
  /** The part of it in the kernel. */
  readonly kernelUs: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  /** Resident memory of the measured process at the end, in MiB. */
  readonly rssMb: number;
  readonly errors: number;
}

export async function run(): Promise<BenchResult> {
  const folder = mkdtempSync(join(tmpdir(), 'strongroom-bench-'));
  const started: ChildProcess[] = [];
  let setup: Setup | null = null;
  try {
    const upstream = await startNginx(folder, started);
    setup = await setUp(folder);
    const { handle, applicationId, applicationKey } = setup;
    const gateway = await startGateway(folder, setup, upstream, started);
    const httpProxy = await startPeer('http-proxy', upstream, started);
    const reserialise = await startPeer('reserialise', upstream, started);
    const script = wrkScript(folder, { handle, applicationId, applicationKey });

    const measure = (target: Target, path: string, connections = CONNECTIONS, seconds = SECONDS) =>
      load(target, path, connections, seconds, script);
    // Warm: compiled code, open connections, cached keys. The first ten seconds of a young process cost a tenth more.
    for (const target of [gateway, httpProxy, reserialise]) await measure(target, SMALL, CONNECTIONS, 10);

    const median = <T>(list: readonly T[], of: (one: T) => number) =>
      list.map(of).sort((a, b) => a - b)[Math.floor(list.length / 2)] as number;
    const small: { ours: Measured; peer: Measured }[] = [];
    const large: { ours: Measured; peer: Measured }[] = [];
    const alone: { ours: Measured; direct: Measured; peer: Measured }[] = [];
    // Paired, so that a machine whose speed drifts changes both sides.
    const databaseCpuUs: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const before = setup.databaseCpuSeconds();
      const ours = await measure(gateway, SMALL);
      databaseCpuUs.push(Math.round(((setup.databaseCpuSeconds() - before) / (ours.perSecond * SECONDS)) * 1e6));
      small.push({ ours, peer: await measure(httpProxy, SMALL) });
      if (QUICK) continue;
      large.push({ ours: await measure(gateway, LARGE), peer: await measure(reserialise, LARGE) });
      alone.push({
        ours: await measure(gateway, SMALL, 1),
        direct: await measure({ url: upstream, pid: null }, SMALL, 1, 3),
        peer: await measure(httpProxy, SMALL, 1, 3),
      });
    }
    if (QUICK) {
      return {
        goals: [
          goal(
            'CPU per call against @fastify/http-proxy, 2 KB',
            median(small, (r) => r.ours.cpuUs / r.peer.cpuUs),
            'x',
            1.2,
            'at_most',
          ),
        ],
        figures: { small },
      };
    }
    const checkpoint = await disturbed(() => measure(gateway, SMALL), setup.checkpoint);
    const restart = await disturbed(() => measure(gateway, SMALL), setup.restartDatabase);

    const goals: Goal[] = [
      goal(
        'CPU per call against @fastify/http-proxy, 2 KB',
        median(small, (r) => r.ours.cpuUs / r.peer.cpuUs),
        'x',
        1.2,
        'at_most',
      ),
      goal(
        'throughput against @fastify/http-proxy, 2 KB',
        median(small, (r) => r.ours.perSecond / r.peer.perSecond),
        'x',
        0.75,
        'at_least',
      ),
      goal(
        'throughput against parse-and-reserialise, 200 KB',
        median(large, (r) => r.ours.perSecond / r.peer.perSecond),
        'x',
        2.5,
        'at_least',
      ),
      goal(
        'added p50 at 1 connection against the bare upstream',
        median(alone, (r) => r.ours.p50 - r.direct.p50),
        'ms',
        1,
        'at_most',
      ),
      goal(
        'resident memory under load',
        Math.max(...small.map((r) => r.ours.rssMb), ...large.map((r) => r.ours.rssMb)),
        'MiB',
        200,
        'at_most',
      ),
    ];
    const failed = [...small, ...large, ...alone].reduce((sum, r) => sum + r.ours.errors + r.peer.errors, 0);
    return {
      goals: [...goals, goal('failed calls in undisturbed rounds', failed, 'calls', 0, 'at_most')],
      figures: {
        databaseCpuUs,
        entriesPerGroup: await setup.entriesPerGroup(),
        seconds: SECONDS,
        connections: CONNECTIONS,
        small,
        large,
        alone,
        duringCheckpoint: checkpoint,
        duringDatabaseRestart: restart,
      },
    };
  } finally {
    for (const child of started.reverse()) await end(child);
    await setup?.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

const SMALL = '/accounts/get';
const LARGE = '/transactions/get';

interface Target {
  readonly url: string;
  readonly pid: number | null;
}

function goal(of: string, measured: number, unit: string, bound: number, direction: Goal['direction']): Goal {
  return { name: of, measured, unit, bound, direction };
}

/** A load that something happens in the middle of. */
async function disturbed(measure: () => Promise<Measured>, disturb: () => Promise<void>): Promise<Measured> {
  const timer = setTimeout(() => void disturb(), (SECONDS * 1000) / 3);
  try {
    return await measure();
  } finally {
    clearTimeout(timer);
  }
}

async function load(
  target: Target,
  path: string,
  connections: number,
  seconds: number,
  script: string,
): Promise<Measured> {
  const before = cpuSeconds(target.pid);
  const wrk = spawn('wrk', [
    ...['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '20s', '-s', script],
    target.url + path,
  ]);
  let out = '';
  wrk.stdout.on('data', (chunk) => {
    out += chunk;
  });
  await once(wrk, 'exit');
  const result = JSON.parse(/RESULT (\{.*\})/.exec(out)?.[1] ?? `{"failed":${JSON.stringify(out)}}`) as Record<
    string,
    number
  >;
  const requests = result.requests as number;
  const after = cpuSeconds(target.pid);
  return {
    perSecond: Math.round(requests / (result.seconds as number)),
    cpuUs: Math.round(((after.all - before.all) / requests) * 1e6),
    kernelUs: Math.round(((after.kernel - before.kernel) / requests) * 1e6),
    p50: result.p50 as number,
    p99: result.p99 as number,
    p999: result.p999 as number,
    rssMb: target.pid === null ? 0 : rssMb(target.pid),
    errors: result.errors as number,
  };
}

function wrkScript(
  folder: string,
  { handle, applicationId, applicationKey }: Pick<Setup, 'handle' | 'applicationId' | 'applicationKey'>,
): string {
  const file = join(folder, 'wrk.lua');
  writeFileSync(
    file,
    `wrk.method = "POST"
wrk.body = '{"access_token":"${handle}"}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["PLAID-CLIENT-ID"] = "${applicationId}"
wrk.headers["PLAID-SECRET"] = "${applicationKey}"
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%d,"seconds":%f,"p50":%f,"p99":%f,"p999":%f,"errors":%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
`,
    { mode: 0o600 },
  );
  return file;
}

/** Linux: CPU time of a process so far, in seconds (100 ticks each). */
function cpuSeconds(pid: number | null): { all: number; kernel: number } {
  if (pid === null) return { all: 0, kernel: 0 };
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  const kernel = Number(fields[12]) / 100;
  return { all: Number(fields[11]) / 100 + kernel, kernel };
}

function rssMb(pid: number): number {
  return Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1024);
}

async function startNginx(folder: string, started: ChildProcess[]): Promise<string> {
  const port = await freePort();
  const answer = (bytes: number) => {
    const row =
      '{"account_id":"blgvvBlXw3cq5GMPwqB6s6q4dLKB9WcVqGDGo","balances":{"available":100,"current":110.5,"iso_currency_code":"USD"},"mask":"0000","name":"Plaid Checking","type":"depository"}';
    const rows = Math.max(1, Math.round((bytes - 60) / (row.length + 1)));
    return `{"accounts":[${Array.from({ length: rows }, () => row).join(',')}],"request_id":"m8MDnv9okwxFNBV"}`;
  };
  mkdirSync(join(folder, 'www'));
  writeFileSync(join(folder, 'www', 'small.json'), answer(2_000));
  writeFileSync(join(folder, 'www', 'large.json'), answer(200_000));
  const conf = join(folder, 'nginx.conf');
  writeFileSync(
    conf,
    `worker_processes 1; daemon off; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log warn;
${process.getuid?.() === 0 ? 'user root;' : ''}
events { worker_connections 1024; }
http {
  access_log off; default_type application/json; keepalive_requests 100000000; keepalive_timeout 300s;
  client_body_temp_path ${folder}/tmp; proxy_temp_path ${folder}/tmp; fastcgi_temp_path ${folder}/tmp;
  uwsgi_temp_path ${folder}/tmp; scgi_temp_path ${folder}/tmp; open_file_cache max=10;
  server {
    listen 127.0.0.1:${port}; root ${folder}/www;
    location = ${SMALL} { error_page 405 =200 /small.json; return 405; }
    location = ${LARGE} { error_page 405 =200 /large.json; return 405; }
    location = /small.json { error_page 405 =200 $uri; }
    location = /large.json { error_page 405 =200 $uri; }
  }
}
`,
  );
  started.push(spawn('nginx', ['-c', conf, '-p', folder], { stdio: 'inherit' }));
  const url = `http://127.0.0.1:${port}`;
  for (let i = 0; ; i++) {
    try {
      const text = await (await fetch(url + SMALL, { method: 'POST', body: '{}' })).text();
      if (!text.startsWith('{"accounts"')) throw new Error(`nginx answered ${text.slice(0, 200)}`);
      return url;
    } catch (error) {
      if (i > 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** `strongroom serve --roles gateway`, with the upstream that nginx plays. */
async function startGateway(folder: string, setup: Setup, upstream: string, started: ChildProcess[]): Promise<Target> {
  const port = await freePort();
  const file = join(folder, 'strongroom.yaml');
  writeFileSync(file, stringify(setup.config({ upstream, port })));
  const log = join(folder, 'gateway.log');
  const bin = join(import.meta.dirname, '..', 'bin');
  const serve = ['serve', '--config', file, '--roles', 'gateway'];
  // BENCH_FLAGS="--cpu-prof ...": the same process with other Node flags, for looking, not for figures.
  const flags = process.env.BENCH_FLAGS?.split(' ');
  const stdio: StdioOptions = ['ignore', flags === undefined ? 'ignore' : 'inherit', 'pipe'];
  const child =
    flags === undefined
      ? spawn(join(bin, 'strongroom'), serve, { stdio })
      : spawn(join(bin, 'node24'), [...flags, join(bin, '..', 'src/cli/main.ts'), ...serve], { stdio });
  started.push(child);
  let said = '';
  child.stderr?.on('data', (chunk) => {
    said += chunk;
  });
  for (let i = 0; !said.includes('ready'); i++) {
    if (i > 100 || child.exitCode !== null) throw new Error(`the gateway did not start: ${said}\n${log}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const url = `http://127.0.0.1:${port}`;
  const answer = await client(() => url, setup.applicationId, setup.applicationKey).post(SMALL, {
    access_token: setup.handle,
  });
  if (answer.status !== 200) throw new Error(`the gateway answered ${answer.text}`);
  return { url, pid: child.pid as number };
}

async function startPeer(kind: string, upstream: string, started: ChildProcess[]): Promise<Target> {
  const flags = ['--max-semi-space-size=12', join(import.meta.dirname, 'peers.ts'), kind, upstream];
  const child = spawn(process.execPath, flags, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_ENV: 'production' },
  });
  started.push(child);
  const [url] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  return { url: String(url).trim(), pid: child.pid as number };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await ended;
  clearTimeout(timer);
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}
