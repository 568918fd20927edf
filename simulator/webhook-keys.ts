/** Webhook signing: ES256 keys with rotation, and the JWT of Plaid-Verification. */
import { createECDH, createHash, createPrivateKey, type KeyObject, sign } from 'node:crypto';
import type { Mint } from './random.ts';
import type { WebhookKey } from './state.ts';
import type { World } from './world.ts';

/** Ways to sign wrongly, for testing a verifier. */
export interface SigningQuirks {
  /** Seconds that `iat` lies in the past; negative: in the future. */
  readonly staleSeconds?: number;
  /** Signed by a key that was never published, under the id of one that was. */
  readonly wrongKey?: boolean;
  /** Names a key that does not exist. */
  readonly unknownKid?: boolean;
}

/** A new key. Made from the mint, so that a seeded simulator has the same keys each time. */
export function makeKey(mint: Mint, now: number): WebhookKey {
  const ecdh = createECDH('prime256v1');
  let scalar = mint.stream.bytes(32);
  for (;;) {
    try {
      ecdh.setPrivateKey(scalar);
      break;
    } catch {
      scalar = mint.stream.bytes(32); // not below the order of the curve: one in 2^32
    }
  }
  const point = ecdh.getPublicKey(); // 0x04, x, y
  const x = point.subarray(1, 33).toString('base64url');
  const y = point.subarray(33).toString('base64url');
  const d = Buffer.from(scalar).toString('base64url');
  return { kid: mint.uuid(), createdAt: now, expiredAt: null, privateJwk: { kty: 'EC', crv: 'P-256', x, y, d }, x, y };
}

/** The key that signs now, made when there is none. */
export function currentKey(world: World): WebhookKey {
  for (const key of [...world.state.webhookKeys.values()].reverse()) if (key.expiredAt === null) return key;
  return rotateKeys(world);
}

/** A new key signs from now on; the others are marked as expired from `graceSeconds` on. */
export function rotateKeys(world: World, graceSeconds = 0): WebhookKey {
  const now = world.now();
  for (const key of world.state.webhookKeys.values()) key.expiredAt ??= now + graceSeconds * 1000;
  const key = makeKey(world.mint, now);
  world.state.webhookKeys.set(key.kid, key);
  return key;
}

export function renderKey(key: WebhookKey): Record<string, unknown> {
  return {
    alg: 'ES256',
    created_at: Math.floor(key.createdAt / 1000),
    crv: 'P-256',
    expired_at: key.expiredAt === null ? null : Math.floor(key.expiredAt / 1000),
    kid: key.kid,
    kty: 'EC',
    use: 'sig',
    x: key.x,
    y: key.y,
  };
}

/** Made once per key: parsing a key costs more than signing. */
const parsed = new WeakMap<WebhookKey, KeyObject>();

function privateKey(key: WebhookKey): KeyObject {
  let found = parsed.get(key);
  if (found === undefined) {
    found = createPrivateKey({ key: key.privateJwk as never, format: 'jwk' });
    parsed.set(key, found);
  }
  return found;
}

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

/** The value of the `Plaid-Verification` header for a body. */
export function signWebhook(world: World, body: Buffer, quirks: SigningQuirks = {}): string {
  const key = currentKey(world);
  const kid = quirks.unknownKid === true ? world.mint.uuid() : key.kid;
  const signer = quirks.wrongKey === true ? makeKey(world.mint, world.now()) : key;
  const claims = {
    iat: Math.floor(world.now() / 1000) - (quirks.staleSeconds ?? 0),
    request_body_sha256: createHash('sha256').update(body).digest('hex'),
  };
  const signed = `${encode({ alg: 'ES256', kid, typ: 'JWT' })}.${encode(claims)}`;
  // RFC 7518 section 3.4: R and S, 32 bytes each, not DER.
  const signature = sign('sha256', Buffer.from(signed), { key: privateKey(signer), dsaEncoding: 'ieee-p1363' });
  return `${signed}.${signature.toString('base64url')}`;
}
