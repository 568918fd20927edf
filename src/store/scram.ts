import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto';
import type { Secret } from '../base/secret.ts';

/** PostgreSQL's own default (RFC 7677 asks for at least as many). */
const ITERATIONS = 4096;

/**
 * What PostgreSQL stores of a password (RFC 5803, in its own spelling), made here
 * so that CREATE ROLE never carries the password: neither to the server's log nor
 * to pg_stat_activity. For ASCII passwords: others would need SASLprep first.
 */
export function scramVerifier(password: Secret<string>, salt: Buffer = randomBytes(16)): string {
  const text = password.reveal();
  if (!/^[\x21-\x7e]+$/.test(text)) throw new RangeError('a generated password is printable ASCII');
  const salted = pbkdf2Sync(text, salt, ITERATIONS, 32, 'sha256');
  const hmac = (name: string) => createHmac('sha256', salted).update(name).digest();
  const storedKey = createHash('sha256').update(hmac('Client Key')).digest('base64');
  return `SCRAM-SHA-256$${ITERATIONS}:${salt.toString('base64')}$${storedKey}:${hmac('Server Key').toString('base64')}`;
}
