import { Type } from 'typebox';
import { StrongroomError } from '../base/errors.ts';
import type { RecordId } from '../base/ids.ts';
import { unsettledOperations } from '../store/operations.ts';
import { type CustodyState, type ListedRecord, listedRecord, listRecords } from '../store/records.ts';
import type { Database } from '../store/sql.ts';
import type { AdminRoute } from './admin-route.ts';

/** Records as people see them: state and health, no ciphertext, no handle, no token. */

const STATES = ['active', 'rotating', 'uncertain', 'lost', 'external', 'frozen', 'removing', 'removed'] as const;

const Item = Type.Object({
  record_id: Type.String(),
  kind: Type.String(),
  application_id: Type.String(),
  item_id: Type.Union([Type.String(), Type.Null()]),
  version: Type.Integer(),
  state: Type.String(),
  health: Type.String(),
  health_code: Type.Union([Type.String(), Type.Null()]),
  created_at: Type.String(),
  changed_at: Type.String(),
});

const Operation = Type.Object({
  operation_id: Type.String(),
  kind: Type.String(),
  record_id: Type.Union([Type.String(), Type.Null()]),
  application_id: Type.String(),
  state: Type.String(),
  reason: Type.Union([Type.String(), Type.Null()]),
  opened_at: Type.String(),
});

interface ListQuery {
  readonly application?: string;
  readonly state?: CustodyState;
  readonly before?: string;
  readonly limit?: string;
}

export function itemRoutes(database: Database): AdminRoute[] {
  return [
    {
      method: 'GET',
      path: '/items',
      summary: 'Records, the newest first; next pages by `before` (created_at of the last one).',
      query: Type.Object(
        {
          application: Type.Optional(Type.String({ pattern: '^[0-9a-f]{24}$' })),
          state: Type.Optional(Type.Union(STATES.map((state) => Type.Literal(state)))),
          before: Type.Optional(Type.String({ pattern: '^[0-9TZ:.+-]{10,35}$' })),
          limit: Type.Optional(Type.String({ pattern: '^([1-9][0-9]{0,2}|1000)$' })),
        },
        { additionalProperties: false },
      ),
      answer: Type.Object({ items: Type.Array(Item) }),
      errors: ['INPUT_INVALID'],
      handle: async (request) => {
        const { application, state, before, limit } = request.query as ListQuery;
        const time = before === undefined ? undefined : new Date(before);
        if (time !== undefined && Number.isNaN(time.getTime())) {
          throw new StrongroomError('INPUT_INVALID', { detail: 'before: must be a time in ISO 8601.' });
        }
        const rows = await listRecords(database.sql, {
          ...(application === undefined ? {} : { applicationId: application }),
          ...(state === undefined ? {} : { state }),
          ...(time === undefined ? {} : { before: time }),
          limit: Number(limit ?? 100),
        });
        return { items: rows.map(render) };
      },
    },
    {
      method: 'GET',
      path: '/items/:record',
      summary: 'One record.',
      params: Type.Object({ record: Type.String({ pattern: '^[0-9a-f-]{36}$' }) }),
      answer: Item,
      errors: ['ITEM_UNKNOWN'],
      handle: async (request) => {
        const { record } = request.params as { record: RecordId };
        const row = await listedRecord(database.sql, record);
        if (row === null) throw new StrongroomError('ITEM_UNKNOWN');
        return render(row);
      },
    },
    {
      method: 'GET',
      path: '/operations',
      summary: 'What is open or uncertain: rotations, removals and exchanges (possible orphans).',
      answer: Type.Object({ operations: Type.Array(Operation) }),
      handle: async () => {
        const rows = await unsettledOperations(database.sql, 1000);
        return {
          operations: rows.map((row) => ({
            operation_id: row.operationId,
            kind: row.kind,
            record_id: row.recordId,
            application_id: row.applicationId,
            state: row.state,
            reason: row.reason,
            opened_at: row.openedAt.toISOString(),
          })),
        };
      },
    },
  ];
}

function render(row: ListedRecord) {
  return {
    record_id: row.recordId,
    kind: row.kind,
    application_id: row.applicationId,
    item_id: row.itemId,
    version: row.version,
    state: row.state,
    health: row.health,
    health_code: row.healthCode,
    created_at: row.createdAt.toISOString(),
    changed_at: row.changedAt.toISOString(),
  };
}
