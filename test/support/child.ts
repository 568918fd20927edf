import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { after } from 'node:test';

/** A program of test/support that talks JSON lines. Killed at the end of the file's tests at the latest. */
export interface Child {
  readonly process: ChildProcess;
  /** The next line; undefined when there will be none. */
  next(): Promise<unknown>;
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Ends its standard input and waits. */
  finish(): Promise<void>;
}

export interface ChildOptions {
  readonly uid?: number;
  readonly gid?: number;
  /** Put before the command line, e.g. a shell that sets a limit. */
  readonly through?: readonly string[];
}

export function startChild(
  program: string,
  args: readonly string[],
  { through = [], ...account }: ChildOptions = {},
): Child {
  const [command = '', ...rest] = [...through, process.execPath, `${import.meta.dirname}/${program}`, ...args];
  const child = spawn(command, rest, { stdio: ['pipe', 'pipe', 'inherit'], cwd: '/', ...account });
  const ended = new Promise<void>((resolve) => {
    child.on('close', () => resolve());
    // Not even started; the lines below then simply end.
    child.on('error', () => resolve());
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const kill = async (signal: NodeJS.Signals) => {
    child.kill(signal);
    await ended;
  };
  after(() => kill('SIGKILL'));
  return {
    process: child,
    next: async () => {
      const { done, value } = await lines.next();
      return done === true ? undefined : JSON.parse(value);
    },
    kill,
    finish: async () => {
      child.stdin.end();
      await ended;
    },
  };
}
