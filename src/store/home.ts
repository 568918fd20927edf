import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { StrongroomError } from '../base/errors.ts';
import { Secret } from '../base/secret.ts';

/**
 * The folder in which `strongroom dev` keeps everything: private to its user,
 * and used by one process at a time.
 */

export interface Home {
  /** Absolute, without symbolic links. */
  readonly path: string;
  /** Lets the next process in. May be called twice. */
  release(): void;
}

/**
 * Makes the folder where it is missing (0700), and locks it until {@link Home.release}
 * or the end of this process, whatever ends it.
 *
 * @throws StrongroomError `HOME_IN_USE`, naming the other process; `HOME_UNUSABLE`
 *   when the folder belongs to somebody else, others may look into it, or it
 *   cannot be written. Nothing in it has been changed then.
 */
export function openHome(folder: string): Home {
  const home = privateFolder(folder);
  const lock = takeLock(home);
  const note = path.join(home, 'lock.json');
  try {
    fs.writeFileSync(note, `${JSON.stringify({ pid: process.pid })}\n`, { mode: 0o600 });
  } catch (error) {
    lock.close();
    throw unusable(home, errnoOf(error));
  }
  let held = true;
  return {
    path: home,
    release: () => {
      if (!held) return;
      held = false;
      fs.rmSync(note, { force: true });
      lock.close();
    },
  };
}

function privateFolder(folder: string): string {
  try {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const home = fs.realpathSync(folder);
    const { uid, mode } = fs.statSync(home);
    if (uid !== process.getuid?.()) throw unusable(home, `it belongs to user ${uid}`);
    if ((mode & 0o077) !== 0) {
      // An empty folder (a fresh mount, say) is ours to close. One with content is
      // not: STRONGROOM_HOME=/tmp must not lock everybody out of /tmp.
      if (fs.readdirSync(home).length > 0)
        throw unusable(home, `others may look into it; chmod 700 it, or choose an empty folder`);
      fs.chmodSync(home, 0o700);
    }
    return home;
  } catch (error) {
    if (error instanceof StrongroomError) throw error;
    throw unusable(folder, errnoOf(error));
  }
}

/**
 * A lock of the operating system on `<home>/lock`. Node offers none, SQLite does:
 * an exclusive transaction holds fcntl locks, which the kernel drops when the
 * process ends, and which also hold between containers that share the folder. A
 * file with a process id in it would have to guess whether that process is alive.
 */
function takeLock(home: string): DatabaseSync {
  let lock: DatabaseSync | null = null;
  try {
    lock = new DatabaseSync(path.join(home, 'lock'));
    fs.chmodSync(path.join(home, 'lock'), 0o600);
    lock.exec('begin exclusive');
    return lock;
  } catch (error) {
    lock?.close();
    const SQLITE_BUSY = 5;
    if ((error as { errcode?: number }).errcode !== SQLITE_BUSY) throw unusable(home, errnoOf(error));
    const pid = lockHolder(home);
    throw new StrongroomError('HOME_IN_USE', {
      detail: `${home} is in use by process ${pid ?? '(unknown)'}.`,
      home,
      pid,
    });
  }
}

/** Read without any claim to truth: only for the message. */
function lockHolder(home: string): number | null {
  try {
    const { pid } = JSON.parse(fs.readFileSync(path.join(home, 'lock.json'), 'utf8')) as { pid?: unknown };
    return typeof pid === 'number' ? pid : null;
  } catch {
    return null;
  }
}

function unusable(home: string, why: string): StrongroomError {
  return new StrongroomError('HOME_UNUSABLE', { detail: `${home}: ${why}.`, home });
}

export function errnoOf(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  return typeof code === 'string' ? code : 'unknown failure';
}

/** Puts a file in place whole (0600): a reader, or a start after a crash, sees the old one or the new one. */
export function replaceFile(file: string, content: string): void {
  const fresh = `${file}.${randomBytes(4).toString('hex')}`;
  const descriptor = fs.openSync(fresh, 'wx', 0o600);
  try {
    fs.writeSync(descriptor, content);
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
  fs.renameSync(fresh, file);
  syncFolder(path.dirname(file));
}

/** Makes a rename survive a power cut. */
export function syncFolder(folder: string): void {
  const descriptor = fs.openSync(folder, 'r');
  try {
    fs.fsyncSync(descriptor);
  } finally {
    fs.closeSync(descriptor);
  }
}

export function secretPath(home: string, name: string): string {
  return path.join(home, 'secrets', `${name}.txt`);
}

/** A secret kept under `<home>/secrets/` (0600), or null when it is not there. */
export function readSecret(home: string, name: string): Secret<string> | null {
  try {
    return new Secret(fs.readFileSync(secretPath(home, name), 'utf8').trim());
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw unusable(home, `${errnoOf(error)} at secrets/${name}.txt`);
  }
}

/** 256 random bits as base64url: safe in a URL, in SQL and in a shell. */
export function createSecret(home: string, name: string): Secret<string> {
  const secret = new Secret(randomBytes(32).toString('base64url'));
  fs.mkdirSync(path.join(home, 'secrets'), { recursive: true, mode: 0o700 });
  replaceFile(secretPath(home, name), `${secret.reveal()}\n`);
  return secret;
}
