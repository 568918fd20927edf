import { StrongroomError } from '../base/errors.ts';
import type { Secret } from '../base/secret.ts';
import { fileSecrets } from './file.ts';
import { partsOf, type SecretReference } from './reference.ts';
import type { SecretStore } from './store.ts';

const STORES: readonly SecretStore[] = [fileSecrets()];

/** Longer than any secrets manager that is well; starting waits for it. */
const PATIENCE_MS = 10_000;

/**
 * Reads the secret behind a reference, anew at every call.
 *
 * @throws StrongroomError `SECRET_UNREADABLE`: not there, not safely kept, empty
 *   or too large. The message names the place and what is wrong, never a content.
 */
export async function readSecret(
  reference: SecretReference,
  signal: AbortSignal = AbortSignal.timeout(PATIENCE_MS),
  stores: readonly SecretStore[] = STORES,
): Promise<Secret<string>> {
  const { scheme, place } = partsOf(reference);
  const store = stores.find((candidate) => candidate.scheme === scheme);
  if (store === undefined) throw new StrongroomError('SECRET_REFERENCE_INVALID', { scheme });
  return store.read(place, signal);
}
