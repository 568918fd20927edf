import { createCipheriv, createDecipheriv, createHash, type KeyObject, randomUUID } from 'node:crypto';
import type { Stats } from 'node:fs';
import { constants, link, open, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Random, systemRandom } from '../base/clock.ts';
import { StrongroomError } from '../base/errors.ts';
import { DATA_KEY_BYTES, keyOfBytes } from './data-key.ts';
import { contextBytes, type KeyContext, type Kms } from './kms.ts';

/**
 * A KEK in a local file: 32 random bytes and nothing else. For trying, developing
 * and testing; refused in production, since whoever reads the file can unwrap
 * everything and nobody is told.
 *
 * Wrapped key: 1 byte format (1), 12 bytes nonce, 32 bytes ciphertext, 16 bytes
 * tag. Random 96-bit nonces under one key are fine for the few data keys that a
 * KEK ever wraps (NIST SP 800-38D section 8.3 allows 2^32).
 */

const FORMAT = 1;
const NONCE_AT = 1;
const CIPHERTEXT_AT = 13;
const TAG_AT = CIPHERTEXT_AT + DATA_KEY_BYTES;
const WRAPPED_BYTES = TAG_AT + 16;

const KEK_BYTES = 32;

/**
 * Makes a KEK file with mode 0600, durably, unless something stands there already:
 * that is left alone, whatever it is. Of two at once one makes it. A crash leaves
 * either no file or a whole one.
 *
 * @returns whether this call made it.
 */
export async function createKekFile(path: string, random: Random = systemRandom): Promise<boolean> {
  // Written beside and linked into place: link, unlike rename, never replaces.
  const draft = join(dirname(path), `.kek-${randomUUID()}`);
  const file = await open(draft, 'wx', 0o600);
  const raw = random.bytes(KEK_BYTES);
  try {
    try {
      await file.writeFile(raw);
      await file.sync();
    } finally {
      raw.fill(0);
      await file.close();
    }
    await link(draft, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  } finally {
    await unlink(draft);
  }
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
  return true;
}

/**
 * Opens the file KEK.
 *
 * `keyId` is `file:` and 32 hex characters of a hash of the key, so that another
 * file in its place has another name; the key cannot be found from it.
 *
 * @throws StrongroomError `KEK_MISSING` when there is no file; `KMS_REFUSED` when it
 *   cannot be read or is not safe: a symbolic link, not a plain file, another owner,
 *   open to group or others, not 32 bytes. The detail says which.
 */
export async function fileKms(path: string, random: Random = systemRandom): Promise<Kms> {
  const raw = await readKek(path);
  const name = createHash('sha256').update('strongroom/file-kek-id/v1\0').update(raw).digest('hex').slice(0, 32);
  const keyId = `file:${name}`;
  const kek = keyOfBytes(raw);

  return {
    keyId,

    async wrap(key, context, signal) {
      stopIfAborted(signal, keyId);
      const wrapped = Buffer.alloc(WRAPPED_BYTES);
      wrapped[0] = FORMAT;
      wrapped.set(random.bytes(CIPHERTEXT_AT - NONCE_AT), NONCE_AT);
      const cipher = createCipheriv('aes-256-gcm', kek, wrapped.subarray(NONCE_AT, CIPHERTEXT_AT));
      cipher.setAAD(bound(keyId, context));
      const bytes = key.export();
      try {
        if (bytes.length !== DATA_KEY_BYTES) throw new RangeError('a data key has 32 bytes');
        wrapped.set(cipher.update(bytes), CIPHERTEXT_AT);
      } finally {
        bytes.fill(0);
      }
      cipher.final();
      wrapped.set(cipher.getAuthTag(), TAG_AT);
      return wrapped;
    },

    async unwrap(wrapped, context, signal): Promise<KeyObject> {
      stopIfAborted(signal, keyId);
      if (wrapped.length !== WRAPPED_BYTES || wrapped[0] !== FORMAT) throw refused(keyId);
      const decipher = createDecipheriv('aes-256-gcm', kek, wrapped.subarray(NONCE_AT, CIPHERTEXT_AT));
      decipher.setAAD(bound(keyId, context));
      decipher.setAuthTag(wrapped.subarray(TAG_AT));
      const opened = decipher.update(wrapped.subarray(CIPHERTEXT_AT, TAG_AT));
      try {
        decipher.final();
      } catch {
        // One answer for wrong key, wrong context and altered bytes: telling them
        // apart would tell an attacker too.
        opened.fill(0);
        throw refused(keyId);
      }
      return keyOfBytes(opened);
    },
  };
}

function bound(keyId: string, context: KeyContext): Buffer {
  return contextBytes('strongroom/file-kek/v1', keyId, context);
}

function refused(keyId: string): StrongroomError {
  return new StrongroomError('KMS_REFUSED', { kek: keyId });
}

function stopIfAborted(signal: AbortSignal, keyId: string): void {
  if (signal.aborted) throw new StrongroomError('KMS_UNAVAILABLE', { kek: keyId }, signal.reason);
}

async function readKek(path: string): Promise<Buffer> {
  // O_NOFOLLOW: no symbolic link. O_NONBLOCK: a named pipe must not hold up the start.
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const file = await open(path, flags).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') throw new StrongroomError('KEK_MISSING', { detail: `There is no file ${path}.` });
    if (error.code === 'ELOOP') throw unsafe(path, 'is a symbolic link');
    throw unsafe(path, `cannot be opened (${error.code ?? 'unknown error'})`);
  });
  try {
    // Asked of the open file, not of the path: what was checked is what is read.
    const flaw = kekFileFlaw(await file.stat(), process.geteuid?.() ?? -1);
    if (flaw !== null) throw unsafe(path, flaw);
    const raw = Buffer.alloc(KEK_BYTES);
    const { bytesRead } = await file.read(raw, 0, KEK_BYTES, 0);
    if (bytesRead !== KEK_BYTES) throw unsafe(path, 'could not be read whole');
    return raw;
  } finally {
    await file.close();
  }
}

/** What speaks against reading a KEK from a file with these properties, or null. */
export function kekFileFlaw(stats: Pick<Stats, 'isFile' | 'uid' | 'mode' | 'size'>, user: number): string | null {
  if (!stats.isFile()) return 'is not a plain file';
  if (stats.uid !== user) return `belongs to user ${stats.uid}, not to ${user}`;
  if ((stats.mode & 0o077) !== 0)
    return `has mode 0${(stats.mode & 0o777).toString(8)}, open to group or others; run chmod 600`;
  if (stats.size !== KEK_BYTES) return `has ${stats.size} bytes instead of ${KEK_BYTES}`;
  return null;
}

function unsafe(path: string, flaw: string): StrongroomError {
  return new StrongroomError('KMS_REFUSED', { detail: `The key file ${path} ${flaw}.` });
}
