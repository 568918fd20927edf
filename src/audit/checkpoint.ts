import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { HASH_BYTES } from './tree.ts';

/**
 * Signed tree heads: a C2SP checkpoint (origin, size, root) in a C2SP signed note
 * with Ed25519. docs/formats/audit.md shows every byte. What is signed is the
 * text up to and with the newline before the blank line.
 *
 * Keys come in as KeyObjects; this file keeps none and reads none.
 */

export interface Checkpoint {
  readonly origin: string;
  /** How many entries the tree covers. */
  readonly size: number;
  readonly root: Buffer;
}

export interface Signer {
  /** The verification key as text: `<name>+<key id in hex>+<base64 of 0x01 and the public key>`. */
  readonly vkey: string;
  readonly name: string;
  sign(text: string): string;
}

export interface Verifier {
  readonly vkey: string;
  readonly name: string;
  /** Four bytes in hex: tells keys of one name apart. A hint, not a proof. */
  readonly keyId: string;
  verify(text: string, signature: Uint8Array): boolean;
}

const ALGORITHM_ED25519 = 0x01; // C2SP signed-note, signature types
const PUBLIC_KEY_BYTES = 32;
const KEY_ID_BYTES = 4;
// RFC 8410 section 4: SubjectPublicKeyInfo of Ed25519 is this and the 32 bytes.
const SPKI_PREFIX = Buffer.from('302a300506032b6570032100', 'hex');
/** Longest note that is looked at. Ours has about 250 bytes; witnesses may add lines. */
const MAX_NOTE = 16_384;
const NAME = /^[!-*,-~]{1,255}$/; // printable ASCII without space and plus

/** The name of a log and of the key that signs for it: tells logs of several deployments and regions apart. */
export function logOrigin(deploymentId: string, log = 'audit'): string {
  return `strongroom/${deploymentId}/${log}`;
}

/** Throws RangeError when the key is no Ed25519 private key or the name has a space or a plus. */
export function createSigner(name: string, privateKey: KeyObject): Signer {
  if (privateKey.asymmetricKeyType !== 'ed25519' || privateKey.type !== 'private') {
    throw new RangeError('checkpoints are signed with an Ed25519 private key');
  }
  if (!NAME.test(name)) throw new RangeError('a key name has no spaces and no plus');
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const publicKey = spki.subarray(spki.length - PUBLIC_KEY_BYTES);
  const id = keyIdOf(name, publicKey);
  return {
    name,
    vkey: `${name}+${id.toString('hex')}+${Buffer.concat([Buffer.of(ALGORITHM_ED25519), publicKey]).toString('base64')}`,
    sign(text) {
      const signature = sign(null, Buffer.from(text, 'utf8'), privateKey);
      return `${text}\n\u2014 ${name} ${Buffer.concat([id, signature]).toString('base64')}\n`;
    },
  };
}

/** Reads a verification key; null when the text is none, or its id does not fit its bytes. */
export function parseVerifier(vkey: string): Verifier | null {
  const match = /^([!-*,-~]{1,255})\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})$/.exec(vkey);
  if (match === null) return null;
  const [, name, keyId, encoded] = match as unknown as [string, string, string, string];
  const bytes = fromBase64(encoded, 1 + PUBLIC_KEY_BYTES);
  if (bytes === null || bytes[0] !== ALGORITHM_ED25519) return null;
  const publicKey = bytes.subarray(1);
  if (keyIdOf(name, publicKey).toString('hex') !== keyId) return null;
  const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' });
  return {
    vkey,
    name,
    keyId,
    verify: (text, signature) => verify(null, Buffer.from(text, 'utf8'), key, signature),
  };
}

/** The text that gets signed. */
export function checkpointText({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${root.toString('base64')}\n`;
}

export type OpenedNote =
  | { readonly ok: true; readonly checkpoint: Checkpoint; readonly vkey: string }
  | { readonly ok: false; readonly reason: 'malformed' | 'unknown_key' | 'bad_signature' };

/**
 * Reads a signed checkpoint and checks it. One good signature of a given key is
 * needed; lines of keys that are not given (witnesses) are left alone, but a
 * signature line that claims a given key and does not verify spoils the note.
 */
export function openCheckpoint(note: string, verifiers: readonly Verifier[]): OpenedNote {
  const parts = splitNote(note);
  if (parts === null) return { ok: false, reason: 'malformed' };
  const checkpoint = parseText(parts.text);
  if (checkpoint === null) return { ok: false, reason: 'malformed' };
  let signedBy: string | null = null;
  for (const { name, keyId, signature } of parts.signatures) {
    const verifier = verifiers.find((each) => each.name === name && each.keyId === keyId);
    if (verifier === undefined) continue;
    if (!verifier.verify(parts.text, signature)) return { ok: false, reason: 'bad_signature' };
    signedBy ??= verifier.vkey;
  }
  return signedBy === null ? { ok: false, reason: 'unknown_key' } : { ok: true, checkpoint, vkey: signedBy };
}

interface NoteParts {
  readonly text: string;
  readonly signatures: readonly { readonly name: string; readonly keyId: string; readonly signature: Buffer }[];
}

function splitNote(note: string): NoteParts | null {
  if (note.length > MAX_NOTE || !note.endsWith('\n')) return null;
  const end = note.lastIndexOf('\n\n');
  if (end < 0) return null;
  const signatures = [];
  for (const line of note.slice(end + 2, -1).split('\n')) {
    const match = /^\u2014 ([!-*,-~]{1,255}) ([A-Za-z0-9+/]+={0,2})$/.exec(line);
    if (match === null) return null;
    const bytes = fromBase64(match[2] as string);
    if (bytes === null || bytes.length <= KEY_ID_BYTES) return null;
    const signature = bytes.subarray(KEY_ID_BYTES);
    signatures.push({ name: match[1] as string, keyId: bytes.subarray(0, KEY_ID_BYTES).toString('hex'), signature });
  }
  return { text: note.slice(0, end + 1), signatures };
}

/** Exactly three lines: extension lines are not ours, and what is not understood is not accepted. */
function parseText(text: string): Checkpoint | null {
  const match = /^([!-~]{1,255})\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n$/.exec(text);
  if (match === null) return null;
  const size = Number(match[2]);
  const root = fromBase64(match[3] as string, HASH_BYTES);
  if (root === null || !Number.isSafeInteger(size)) return null;
  return { origin: match[1] as string, size, root };
}

function keyIdOf(name: string, publicKey: Uint8Array): Buffer {
  const digest = createHash('sha256')
    .update(`${name}\n`, 'utf8')
    .update(Buffer.of(ALGORITHM_ED25519))
    .update(publicKey);
  return digest.digest().subarray(0, KEY_ID_BYTES);
}

/** Strict: one text per value, so that no bit of it can change unnoticed. */
function fromBase64(text: string, length?: number): Buffer | null {
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text && (length === undefined || bytes.length === length) ? bytes : null;
}
