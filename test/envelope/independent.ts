import { createCipheriv, createDecipheriv, hkdfSync, timingSafeEqual } from 'node:crypto';

/**
 * The envelope once more, written from docs/formats/envelope.md alone: it shares
 * no line with src/, so that format and description are tested against each other.
 */

export interface PlainBinding {
  readonly deployment_id: string;
  readonly plaid_environment: string;
  readonly plaid_client_id: string;
  readonly record_id: string;
  readonly kind: string;
  readonly version: number;
}

const u32 = (value: number) => Buffer.from([value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255]);
const text = (value: string) => Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)]);

export function boundBytes(header: Buffer, b: PlainBinding): Buffer {
  const texts = [b.deployment_id, b.plaid_environment, b.plaid_client_id, b.record_id, b.kind].map(text);
  return Buffer.concat([header.subarray(0, 53), ...texts, u32(b.version)]);
}

export function derived(dataKey: Buffer, bound: Buffer): { key: Buffer; commitment: Buffer } {
  const bytes = Buffer.from(hkdfSync('sha512', dataKey, 'strongroom/envelope/v1', bound, 64));
  return { key: bytes.subarray(0, 32), commitment: bytes.subarray(32) };
}

/** Writes whatever it is told to, also what no sealer would write. */
export function craft(
  parts: { dataKey: Buffer; id: string; salt: Buffer; nonce: Buffer; prefix?: string; tagBytes?: number },
  binding: PlainBinding,
  plaintext: Buffer,
): Buffer {
  const prefix = Buffer.from(parts.prefix ?? '5352450101', 'hex');
  const header = Buffer.concat([prefix, Buffer.from(parts.id.replaceAll('-', ''), 'hex'), parts.salt]);
  const bound = boundBytes(header, binding);
  const { key, commitment } = derived(parts.dataKey, bound);
  const cipher = createCipheriv('aes-256-gcm', key, parts.nonce, { authTagLength: parts.tagBytes ?? 16 });
  cipher.setAAD(bound);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return Buffer.concat([header, commitment, parts.nonce, ciphertext, cipher.getAuthTag()]);
}

/** The plaintext, or at which step of the description it is refused. */
export function openByTheBook(dataKey: Buffer, id: string, binding: PlainBinding, sealed: Buffer): Buffer | string {
  const { version, ...texts } = binding;
  if (!Object.values(texts).every((value) => /^[!-~]{1,128}$/.test(value))) return 'binding';
  if (version < 1 || version > 2_147_483_647) return 'binding';
  if (sealed.length < 114 || sealed.length > 16_497) return 'length';
  if (sealed.subarray(0, 5).toString('hex') !== '5352450101') return 'prefix';
  if (sealed.subarray(5, 21).toString('hex') !== id.replaceAll('-', '')) return 'data key id';
  const bound = boundBytes(sealed, binding);
  const { key, commitment } = derived(dataKey, bound);
  if (!timingSafeEqual(commitment, sealed.subarray(53, 85))) return 'commitment';
  const plaintext = rawGcm(key, sealed, bound);
  if (plaintext === null) return 'tag';
  return plaintext.equals(Buffer.from(plaintext.toString('utf8'))) ? plaintext : 'utf-8';
}

/** What plain AES-256-GCM says of the same bytes: no commitment, no look at the header. */
export function rawGcm(key: Buffer, sealed: Buffer, bound: Buffer): Buffer | null {
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(85, 97), { authTagLength: 16 });
  decipher.setAAD(bound);
  decipher.setAuthTag(sealed.subarray(-16));
  const plaintext = decipher.update(sealed.subarray(97, -16));
  try {
    decipher.final();
    return plaintext;
  } catch {
    return null;
  }
}
