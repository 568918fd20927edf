import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/**
 * A command of ours as the operator runs it: bin/strongroom in a process of its
 * own, seen from outside only. It gets a process group of its own, so that a kill
 * reaches it and nothing else, and an environment that is written here and
 * inherits nothing.
 *
 * Not bound to a test: suites that are programs themselves use it too. Whoever
 * starts one ends it; what is left when this process exits is killed.
 */
export interface Program {
  readonly pid: number;
  /** Everything written so far. */
  readonly stdout: () => Buffer;
  readonly stderr: () => Buffer;
  /** What ended it. Never rejects. */
  readonly ended: Promise<Ending>;
  /** Whether it has ended. */
  readonly over: () => boolean;
  /**
   * Waits for a text on standard output or standard error.
   *
   * @throws Error with what was said, when it ends or the time is over before.
   */
  said(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray>;
  /** Signals the process group and waits for its end. */
  kill(signal: NodeJS.Signals): Promise<Ending>;
  /** /proc's view of the command line and the environment; empty once it has ended, or without /proc. */
  seen(): { readonly cmdline: Buffer; readonly environ: Buffer };
}

export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ProgramOptions {
  /** STRONGROOM_HOME. */
  readonly home?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Working directory. Default `/`. */
  readonly cwd?: string;
  /** Written to standard input, which then ends. */
  readonly input?: string;
  /** Run in place of bin/strongroom, which is then not part of the arguments. */
  readonly command?: string;
}

export const CHECKOUT = fileURLToPath(new URL('../..', import.meta.url));
const LAUNCHER = `${CHECKOUT}bin/strongroom`;
/** Ready within this time also on a machine that does much else, in milliseconds. */
const PATIENCE_MS = 60_000;

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) signalGroup(child, 'SIGKILL');
});

export function startProgram(args: readonly string[], options: ProgramOptions = {}): Program {
  const { home, env = {}, cwd = '/', input = '', command = LAUNCHER } = options;
  const child = spawn(command, args, {
    cwd,
    detached: true,
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: process.env.PATH ?? '', ...(home === undefined ? {} : { STRONGROOM_HOME: home }), ...env },
  });
  running.add(child);
  child.stdin.on('error', () => {}); // it may end without reading
  child.stdin.end(input);
  const [out, err]: Buffer[][] = [[], []];
  child.stdout.on('data', (chunk: Buffer) => out?.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => err?.push(chunk));
  let over = false;
  const ended = new Promise<Ending>((resolve) => {
    const end = (ending: Ending) => {
      over = true;
      running.delete(child);
      resolve(ending);
    };
    child.on('close', (code, signal) => end({ code, signal }));
    child.on('error', () => end({ code: null, signal: null }));
  });
  const stdout = () => Buffer.concat(out ?? []);
  const stderr = () => Buffer.concat(err ?? []);
  const pid = child.pid ?? 0;
  const proc = (name: string) => {
    try {
      return readFileSync(`/proc/${pid}/${name}`);
    } catch {
      return Buffer.alloc(0);
    }
  };

  return {
    pid,
    stdout,
    stderr,
    ended,
    over: () => over,
    async said(pattern, timeoutMs = PATIENCE_MS) {
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        const wasOver = over;
        const found = pattern.exec(stdout().toString('utf8')) ?? pattern.exec(stderr().toString('utf8'));
        if (found !== null) return found;
        if (wasOver || performance.now() > deadline) {
          const how = wasOver ? 'ended' : `did not say ${pattern} within ${timeoutMs} ms`;
          throw new Error(`strongroom ${args.join(' ')} ${how}:\n${stdout()}${stderr()}`);
        }
        await Promise.race([ended, sleep(10)]);
      }
    },
    async kill(signal) {
      if (!over) signalGroup(child, signal);
      return ended;
    },
    seen: () => ({ cmdline: proc('cmdline'), environ: proc('environ') }),
  };
}

/** Runs a command to its end. */
export async function runProgram(
  args: readonly string[],
  options: ProgramOptions = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const program = startProgram(args, options);
  const { code } = await program.ended;
  return { code, stdout: program.stdout().toString('utf8'), stderr: program.stderr().toString('utf8') };
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  try {
    // The group has the pid of the process that was started as its leader.
    if (child.pid !== undefined) process.kill(-child.pid, signal);
  } catch {
    // Ended already.
  }
}
