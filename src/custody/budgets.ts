import { type AccessCall, type Decision, effectOf, type FreezeClass } from '../access/decide.ts';
import type { Policy } from '../access/policy.ts';
import type { AuditWriter } from '../audit/writer.ts';
import { freezeApplication } from '../store/applications.ts';
import type { Sql } from '../store/sql.ts';
import type { UsageReservations } from '../store/usage.ts';

/**
 * Quota and budgets of a call that the policy allows. Counting comes after the
 * decision, so that refused calls spend nothing, and before the admission.
 */

export interface BudgetParts {
  readonly usage: Pick<UsageReservations, 'reserve'>;
  /** With the role gateway, for the freeze. */
  readonly sql: Sql;
  readonly audit: Pick<AuditWriter, 'append'>;
}

/**
 * Counts the call, or says which limit it would exceed. Past a budget the
 * application is frozen, durably and on every replica, before this returns.
 *
 * @param removals - How many items a removal names; 1 unless the caller knows better.
 * @returns The refusal, or null when the call fits.
 * @throws StrongroomError `DATABASE_UNAVAILABLE`, `OVERLOADED` (not counted, or
 *   counted and not used); `AUDIT_UNAVAILABLE` (frozen, and the entry is missing: the
 *   freeze itself stands in the table with its time and reason).
 */
export async function spend(
  { usage, sql, audit }: BudgetParts,
  policy: Policy,
  call: AccessCall,
  removals = 1,
): Promise<Decision | null> {
  const effect = effectOf(call.endpoint);
  const records: string[] = [];
  for (const record of call.records) if (record !== null) records.push(record.id);
  const { budgets } = policy;
  const exceeded = await usage.reserve({
    applicationId: call.application,
    records,
    removals: effect === 'removal' ? removals : 0,
    rotations: effect === 'rotation' ? 1 : 0,
    limits: {
      calls: policy.dayQuota,
      items: budgets.distinctItemsPerHour,
      removals: budgets.removalsPerDay,
      rotations: budgets.rotationsPerDay,
    },
  });
  if (exceeded === null) return null;
  // A quota is a matter of volume and mends itself at midnight. A budget says that
  // something is wrong, and waits for a person.
  if (exceeded === 'calls') return { ok: false, code: 'QUOTA_EXCEEDED', reason: 'day_quota' };
  const [budget, limit, freeze] = (
    {
      items: ['distinct_items_per_hour', budgets.distinctItemsPerHour, call.endpoint.class],
      removals: ['removals_per_day', budgets.removalsPerDay, 'removal'],
      rotations: ['rotations_per_day', budgets.rotationsPerDay, 'rotation'],
    } as const satisfies Record<string, readonly [string, number, FreezeClass]>
  )[exceeded];
  // Of many calls that find the budget spent, one freezes and tells.
  if (await freezeApplication(sql, call.application, freeze, budget)) {
    await audit.append('budget.exceeded', { application: call.application, budget, class: freeze, limit });
  }
  return { ok: false, code: 'BUDGET_EXCEEDED', reason: budget };
}
