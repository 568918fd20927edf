import type { KeyObject } from 'node:crypto';
import type { DeploymentEnvironment } from '../base/ids.ts';
import type { KeyPurpose } from './data-key.ts';
import { lengthPrefixed } from './encoding.ts';

/**
 * Bound into every wrapping as authenticated data (AWS calls it encryption
 * context). Unwrapping under any other context must fail, so that a wrapped key
 * cannot be moved to another deployment, environment, purpose or row. Nothing in
 * it is secret: key services write it into their own logs.
 */
export interface KeyContext {
  /** The deployment id. */
  readonly deployment: string;
  readonly environment: DeploymentEnvironment;
  readonly purpose: KeyPurpose;
  /** The data key's id. */
  readonly dataKey: string;
}

/**
 * A key service: the only thing that holds the key-encryption key (KEK). Every
 * adapter passes test/envelope/kms-contract.ts.
 *
 * Both methods may be called concurrently and repeated; neither changes anything
 * that a later call could notice. They never retry and never fall back to another
 * key. They throw StrongroomError `KMS_REFUSED` when the service has decided (wrong
 * key, wrong context, altered bytes, permission gone, key disabled: one answer for
 * all) and `KMS_UNAVAILABLE` when it has not (no answer, throttled, aborted).
 *
 * `signal` ends the call early. An adapter that leaves raw key bytes in a buffer
 * zeroes it before it returns.
 */
export interface Kms {
  /** Names the KEK in key rows and audit entries, e.g. an ARN; at most 2,048 characters. Not secret, one per key. */
  readonly keyId: string;
  /** @returns 1 to {@link WRAPPED_LIMIT} bytes; unlike on every call. */
  wrap(key: KeyObject, context: KeyContext, signal: AbortSignal): Promise<Uint8Array>;
  unwrap(wrapped: Uint8Array, context: KeyContext, signal: AbortSignal): Promise<KeyObject>;
}

/** Longest wrapped key, in bytes. AWS KMS answers about 200, RSA-wrapped keys 512. */
export const WRAPPED_LIMIT = 8_192;

/** A context in its one encoding, for adapters that authenticate bytes. */
export function contextBytes(label: string, keyId: string, context: KeyContext): Buffer {
  const { deployment, environment, purpose, dataKey } = context;
  return lengthPrefixed(label, keyId, deployment, environment, purpose, dataKey);
}
