import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { StrongroomError } from '../base/errors.ts';
import { type Account, giveTo } from './embedded-account.ts';
import { errnoOf, replaceFile } from './home.ts';

/** The small files around the embedded server: its socket's folder, our note to the next start, its log. */

/** `/.s.PGSQL.5432` and its terminator fit behind this; the limit is 108 on Linux and 104 on macOS. */
const LONGEST_FOLDER = 103 - '/.s.PGSQL.5432'.length;

/**
 * A folder (0700) for the socket, new at every start, so that nobody can have
 * prepared it. Short, since a socket's path has a hard limit and home's has none.
 */
export function makeRuntimeFolder(parent: string | undefined, account: Account | null): string {
  const parents = parent === undefined ? [os.tmpdir(), '/tmp', '/var/tmp', '/dev/shm'] : [parent];
  for (const candidate of parents) {
    const prefix = path.join(candidate, 'strongroom-');
    if (Buffer.byteLength(prefix) + 6 > LONGEST_FOLDER) continue;
    if (account !== null && !isOpenToAll(candidate)) continue;
    try {
      const folder = fs.mkdtempSync(prefix);
      if (account !== null) giveTo(folder, account);
      return folder;
    } catch (error) {
      if (error instanceof StrongroomError) throw error;
    }
  }
  throw new StrongroomError('EMBEDDED_FAILED', {
    detail: `No folder for the server's socket: ${parents.join(', ')} must be writable and at most ${LONGEST_FOLDER - 18} bytes long.`,
  });
}

/** Whether an account that is not ours can walk there. */
function isOpenToAll(folder: string): boolean {
  for (let at = folder; ; at = path.dirname(at)) {
    const { mode } = fs.statSync(at, { throwIfNoEntry: false }) ?? { mode: 0 };
    if ((mode & 0o001) === 0) return false;
    if (at === path.dirname(at)) return true;
  }
}

export function removeRuntimeFolder(folder: string): void {
  if (!path.basename(folder).startsWith('strongroom-')) return;
  fs.rmSync(folder, { recursive: true, force: true });
}

/** What the next start must know of this one. */
export interface Note {
  /** The name in the server's command line. */
  readonly name: string;
  readonly socketDir: string;
  /** Whether logins and database are complete. */
  readonly prepared: boolean;
}

export function readNote(home: string): Note | null {
  try {
    return JSON.parse(fs.readFileSync(path.join(home, 'postgres.json'), 'utf8')) as Note;
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}

export function writeNote(home: string, note: Note): void {
  replaceFile(path.join(home, 'postgres.json'), `${JSON.stringify(note)}\n`);
}

/** Bytes; one older log is kept. */
const LONGEST_LOG = 4 * 1024 * 1024;

export function keepLogShort(logFile: string): void {
  const size = fs.statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (size > LONGEST_LOG) fs.renameSync(logFile, `${logFile}.1`);
}
