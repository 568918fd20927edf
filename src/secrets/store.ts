import type { Secret } from '../base/secret.ts';
import type { Scheme } from './reference.ts';

/**
 * A place that keeps secrets: a folder, a cloud secrets manager. One adapter a
 * file; each passes test/contracts/secret-store.ts.
 *
 * An adapter reads and never writes, keeps nothing, and may be called
 * concurrently and again. It answers with the current version of the secret.
 */
export interface SecretStore {
  readonly scheme: Scheme;

  /**
   * @param place - What follows `<scheme>:` in the reference.
   * @throws StrongroomError `SECRET_UNREADABLE`. The message names the place and
   *   what is wrong with it, never what is in it.
   */
  read(place: string, signal: AbortSignal): Promise<Secret<string>>;
}

/** Most bytes of a secret. A certificate key of 16,384 bits has 13 KiB. */
export const MOST_SECRET_BYTES = 64 * 1024;
