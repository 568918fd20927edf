/** What a check of `doctor` says. */

export interface Check {
  readonly name: CheckName;
  /** `skipped`: could not be asked here, and why is in `says`. */
  readonly outcome: 'ok' | 'finding' | 'skipped';
  readonly says: string;
  /** What to do, for a finding. */
  readonly remedy: string | null;
  readonly details: readonly { readonly code: string; readonly id: string | null; readonly says: string }[];
}

export const CHECK_NAMES = [
  'server',
  'logins',
  'schema',
  'stamp',
  'keys',
  'records',
  'applications',
  'audit log',
  'heads',
  'operations',
] as const;
export type CheckName = (typeof CHECK_NAMES)[number];

export type Detail = Check['details'][number];
export const ok = (says: string): Verdict => ({ outcome: 'ok', says, remedy: null, details: [] });
export const skipped = (says: string): Verdict => ({ outcome: 'skipped', says, remedy: null, details: [] });
export const finding = (says: string, remedy: string, details: readonly Detail[] = []): Verdict => ({
  outcome: 'finding',
  says,
  remedy,
  details,
});
export type Verdict = Omit<Check, 'name'>;
