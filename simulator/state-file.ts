/**
 * Keeps the state over a restart: one JSON document, replaced as a whole. It is
 * the one place where the simulator writes raw (fake) tokens to disk, mode 0600.
 */
import { open, readFile, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

export interface StateFile {
  /**
   * Resolves when everything that was true at the time of the call is on disk.
   * Calls that come in while a write is under way share the next one.
   */
  save(): Promise<void>;
}

/** Null when there is no file yet. Throws when it is there and cannot be read as JSON. */
export async function loadState(path: string): Promise<Record<string, unknown> | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch {
    // The parser's message would quote the file, and with it a token.
    throw new Error(`the simulator's state file ${path} is not JSON; move it away to start with an empty Plaid`);
  }
}

export function stateFile(path: string, take: () => unknown): StateFile {
  let running: Promise<void> | null = null;
  let next: Promise<void> | null = null;

  function save(): Promise<void> {
    if (running === null) return start();
    // The write under way may have taken its copy before our change.
    next ??= running
      .catch(() => {})
      .then(() => {
        next = null;
        return start();
      });
    return next;
  }

  function start(): Promise<void> {
    const write = replace(path, JSON.stringify(take())).finally(() => {
      if (running === write) running = null;
    });
    running = write;
    return write;
  }

  return { save };
}

async function replace(path: string, text: string): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  await unlink(temporary).catch(() => {});
  const file = await open(temporary, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  // From here on the new state is whole on disk; the name moves to it in one step.
  await rename(temporary, path);
  const folder = await open(dirname(path), 'r');
  await folder.sync().finally(() => folder.close());
}
