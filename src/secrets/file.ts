import { constants, type Stats } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { StrongroomError } from '../base/errors.ts';
import { Secret } from '../base/secret.ts';
import { MOST_SECRET_BYTES, type SecretStore } from './store.ts';

/**
 * Secrets from files, for development and single hosts; refused in production.
 *
 * A file counts only when nobody but its owner can read or replace it: a regular
 * file of this user or root, mode 0600 or 0400, in a folder that others cannot
 * write to. All checks are made on the open file, so that it cannot be exchanged
 * between the check and the reading.
 */
export function fileSecrets(me: number | undefined = process.geteuid?.()): SecretStore {
  return {
    scheme: 'file',
    async read(path, signal) {
      signal.throwIfAborted();
      await checkFolder(path, me);
      const file = await openFile(path);
      try {
        const size = checkFile(path, await file.stat(), me);
        return new Secret(textOf(path, await readAll(file, size, path)));
      } finally {
        await file.close();
      }
    },
  };
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    // NOFOLLOW: a link could be turned to another file by whoever owns it.
    // NONBLOCK: opening a FIFO would wait for a writer for ever.
    return await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ENOTDIR') throw unreadable(path, 'does not exist');
    if (code === 'ELOOP') throw unreadable(path, 'is a symbolic link; name the file itself');
    if (code === 'EACCES' || code === 'EPERM') throw unreadable(path, 'may not be read by this user');
    throw unreadable(path, `could not be opened (${code ?? 'unknown'})`);
  }
}

/** Returns the size. Windows has neither owner nor mode; there the folder's ACL is all there is. */
function checkFile(path: string, found: Stats, me: number | undefined): number {
  if (!found.isFile()) throw unreadable(path, 'is not a regular file');
  if (me !== undefined) {
    if (found.uid !== me && found.uid !== 0) throw unreadable(path, 'belongs to another user');
    const mode = found.mode & 0o7777;
    if (mode !== 0o600 && mode !== 0o400) {
      throw unreadable(path, `has mode 0${mode.toString(8)}; it must be 0600 or 0400`);
    }
  }
  if (found.size === 0) throw unreadable(path, 'is empty');
  if (found.size > MOST_SECRET_BYTES) throw unreadable(path, `has more than ${MOST_SECRET_BYTES} bytes`);
  return found.size;
}

async function checkFolder(path: string, me: number | undefined): Promise<void> {
  if (me === undefined) return;
  // A folder that cannot be seen says more when the file is opened.
  const folder = await stat(dirname(path)).catch(() => null);
  if (folder === null) return;
  const sticky = (folder.mode & 0o1000) !== 0;
  if ((folder.mode & 0o022) !== 0 && !sticky) {
    throw unreadable(path, 'lies in a folder that other users can write to');
  }
  if (folder.uid !== me && folder.uid !== 0) throw unreadable(path, 'lies in a folder of another user');
}

async function readAll(file: FileHandle, size: number, path: string): Promise<Buffer> {
  // One byte more than expected shows a file that grew.
  const bytes = Buffer.alloc(size + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(bytes, length, bytes.length - length, null);
    if (bytesRead === 0) break;
    length += bytesRead;
    if (length > size) {
      bytes.fill(0);
      throw unreadable(path, 'changed while it was read');
    }
  }
  return bytes.subarray(0, length);
}

/** Without the one line end that editors and `echo` leave; everything else is part of the secret. Zeroes `bytes`. */
function textOf(path: string, bytes: Buffer): string {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes).replace(/\r?\n$/, '');
    if (text === '') throw unreadable(path, 'is empty');
    if (text.includes('\0')) throw unreadable(path, 'holds a NUL byte');
    return text;
  } catch (error) {
    if (error instanceof StrongroomError) throw error;
    // The decoder's own error is dropped: it may quote bytes.
    throw unreadable(path, 'is not UTF-8 text');
  } finally {
    bytes.fill(0);
  }
}

function unreadable(path: string, why: string): StrongroomError {
  return new StrongroomError('SECRET_UNREADABLE', { path, detail: `${path} ${why}.` });
}
