import { execFileSync, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { StrongroomError } from '../base/errors.ts';
import type { Account } from './embedded-account.ts';
import type { Binaries } from './embedded-binaries.ts';
import { errnoOf } from './home.ts';

/**
 * One run of a PostgreSQL server as our child: start, wait until it is ready,
 * stop, and find one that a killed predecessor of ours left behind.
 */

export interface Cluster {
  readonly binaries: Binaries;
  /** Null: as ourselves. */
  readonly account: Account | null;
  readonly dataFolder: string;
  readonly socketFolder: string;
  /** Unique to this data folder; stands in the server's command line, by which we know it again. */
  readonly name: string;
  readonly logFile: string;
}

export interface Ending {
  readonly code: number | null;
  readonly signal: string | null;
}

export interface ServerProcess {
  readonly pid: number;
  readonly ended: Promise<Ending>;
  /** Fast shutdown: open transactions are rolled back, everything committed is kept. */
  stop(): Promise<void>;
}

/** A crash recovery after much writing takes its time; the server says so in postmaster.pid all along. */
const START_PATIENCE_MS = 600_000;
const STOP_PATIENCE_MS = 20_000;
const POLL_MS = 10;

/**
 * For small memory (about 75 MB) and full durability. On the command line, since
 * ALTER SYSTEM cannot change it there. The log takes no statement, parameter or
 * DETAIL line: those can hold row values.
 */
function settings(cluster: Cluster): Record<string, string> {
  return {
    cluster_name: cluster.name,
    listen_addresses: '',
    unix_socket_directories: cluster.socketFolder,
    unix_socket_permissions: '0700',
    fsync: 'on',
    full_page_writes: 'on',
    synchronous_commit: 'on',
    password_encryption: 'scram-sha-256',
    max_connections: '200',
    shared_buffers: '32MB',
    max_wal_size: '256MB',
    max_wal_senders: '0',
    max_logical_replication_workers: '0',
    max_worker_processes: '2',
    max_parallel_workers: '0',
    autovacuum_max_workers: '1',
    jit: 'off',
    log_error_verbosity: 'terse',
    // Above error: messages of failed statements may quote values, and their callers have them anyway.
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    log_statement: 'none',
    log_checkpoints: 'off',
    log_timezone: 'UTC',
    timezone: 'UTC',
    // Three worker processes less; our data fits the cache.
    ...(cluster.binaries.major >= 18 ? { io_method: 'sync' } : {}),
  };
}

/** Nothing of our own environment: it may hold secrets, and PG* variables would change what runs. */
const ENVIRONMENT = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

/**
 * Runs a program of PostgreSQL on the data folder as the account.
 *
 * As root, home is 0700 and ours, so the account cannot walk to the data folder,
 * and making it walkable would open home. Instead the child inherits the open
 * folder as descriptor 3 and knows it as /proc/self/fd/3; the server and all its
 * children have it. (Elsewhere than on Linux root has to choose a home that
 * others may enter.)
 */
function spawnOn(
  cluster: Cluster,
  program: string,
  options: readonly string[],
  account: Account | null,
  output: number,
) {
  const byDescriptor = account !== null && process.platform === 'linux';
  const folder = byDescriptor
    ? fs.openSync(cluster.dataFolder, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
    : null;
  try {
    return spawn(
      path.join(cluster.binaries.folder, 'bin', program),
      ['-D', folder === null ? cluster.dataFolder : '/proc/self/fd/3', ...options],
      {
        cwd: '/',
        env: ENVIRONMENT,
        // Its own process group: Ctrl-C is for us, and we write our last entries before we stop the server.
        detached: true,
        stdio: ['ignore', output, output, ...(folder === null ? [] : [folder])],
        ...(account === null ? {} : { uid: account.uid, gid: account.gid }),
      },
    );
  } finally {
    if (folder !== null) fs.closeSync(folder);
  }
}

/**
 * Fills an empty data folder.
 *
 * @param passwordFile - Readable by the account; holds the superuser's password.
 * @throws StrongroomError `EMBEDDED_FAILED` with the last lines it printed.
 */
export async function initialise(cluster: Cluster, account: Account | null, passwordFile: string): Promise<void> {
  const options = ['--username=postgres', '--auth=scram-sha-256', `--pwfile=${passwordFile}`, '--data-checksums'];
  const child = withLog(cluster, (log) =>
    spawnOn(cluster, 'initdb', [...options, '--encoding=UTF8', '--locale=C', '--no-instructions'], account, log),
  );
  const { code, signal } = await endOf(child);
  if (code !== 0) throw failed(cluster, `initdb ended with ${signal ?? `code ${code}`}`);
}

/**
 * Starts the server and waits until it takes connections.
 *
 * @throws StrongroomError `EMBEDDED_FAILED` with the last lines of its log.
 */
export async function launch(cluster: Cluster): Promise<ServerProcess> {
  const options = Object.entries(settings(cluster)).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const child = withLog(cluster, (log) => spawnOn(cluster, 'postgres', options, cluster.account, log));
  const ended = endOf(child);
  let ending: Ending | null = null;
  void ended.then((how) => {
    ending = how;
  });

  const deadline = performance.now() + START_PATIENCE_MS;
  for (;;) {
    if (ending !== null) throw failed(cluster, `it ended with ${describe(ending)}`);
    const note = readPostmasterPid(cluster.dataFolder);
    if (note !== null && note.pid === child.pid && note.ready) break;
    if (performance.now() > deadline) {
      child.kill('SIGKILL');
      throw failed(cluster, 'it was not ready in ten minutes');
    }
    await pause(POLL_MS);
  }
  // The server alone must not keep this process running.
  child.unref();

  let stopping: Promise<void> | null = null;
  const stop = async () => {
    child.ref();
    child.kill('SIGINT');
    const patient = AbortSignal.timeout(STOP_PATIENCE_MS);
    const insist = () => child.kill('SIGQUIT'); // recovers from its log at the next start; nothing committed is lost
    patient.addEventListener('abort', insist);
    await ended;
    patient.removeEventListener('abort', insist);
  };
  return {
    pid: child.pid as number,
    ended,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}

function withLog<T>(cluster: Cluster, use: (log: number) => T): T {
  const log = fs.openSync(cluster.logFile, 'a', 0o600);
  try {
    return use(log);
  } finally {
    fs.closeSync(log);
  }
}

function endOf(child: ReturnType<typeof spawn>): Promise<Ending> {
  return new Promise((resolve) => {
    child.on('error', (error) => resolve({ code: null, signal: errnoOf(error) }));
    child.on('exit', (code, signal) => resolve({ code, signal }));
  });
}

export function describe({ code, signal }: Ending): string {
  return signal ?? `code ${code}`;
}

/** The end of the log tells why; it holds no row values (see settings). */
function failed(cluster: Cluster, why: string): StrongroomError {
  let lines: string[] = [];
  try {
    lines = fs.readFileSync(cluster.logFile, 'utf8').trim().split('\n').slice(-6);
  } catch {
    // Then the reason alone must do.
  }
  return new StrongroomError('EMBEDDED_FAILED', { detail: [`${why}.`, ...lines].join('\n') });
}

/** The server keeps this file while it runs: process id in line 1, state in line 8. */
function readPostmasterPid(dataFolder: string): { pid: number; ready: boolean } | null {
  try {
    const lines = fs.readFileSync(path.join(dataFolder, 'postmaster.pid'), 'utf8').split('\n');
    const pid = Number(lines[0]);
    return Number.isInteger(pid) && pid > 1 ? { pid, ready: lines[7]?.trim() === 'ready' } : null;
  } catch {
    return null;
  }
}

/**
 * Ends a server that runs on without us after we were killed, so that the data
 * folder is free. What it had committed stays. The caller holds the home's lock.
 *
 * @returns true when there was one.
 * @throws StrongroomError `EMBEDDED_FAILED` when it does not end.
 */
export async function stopOrphan(dataFolder: string, name: string): Promise<boolean> {
  const note = readPostmasterPid(dataFolder);
  if (note === null || !isAlive(note.pid)) return false;
  if (!isServerOf(note.pid, name)) {
    // The machine was restarted and gave the number to another process. The
    // server would take that for another server and refuse; its own check of the
    // shared memory still guards the folder.
    fs.rmSync(path.join(dataFolder, 'postmaster.pid'), { force: true });
    return false;
  }
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGKILL'] as const) {
    process.kill(note.pid, signal);
    const deadline = performance.now() + STOP_PATIENCE_MS;
    while (performance.now() < deadline) {
      if (!isServerOf(note.pid, name)) return true;
      await pause(POLL_MS);
    }
  }
  throw new StrongroomError('EMBEDDED_FAILED', {
    detail: `The server of an earlier start (process ${note.pid}) does not end.`,
  });
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}

/** By its command line, which everybody may read: other signs need privileges that containers drop. */
function isServerOf(pid: number, name: string): boolean {
  try {
    const line =
      process.platform === 'linux'
        ? fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8')
        : execFileSync('/bin/ps', ['-ww', '-o', 'command=', '-p', String(pid)], { encoding: 'utf8' });
    return line.includes(`cluster_name=${name}`);
  } catch {
    return false;
  }
}
