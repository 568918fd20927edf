import { Readable } from 'node:stream';
import { Type } from 'typebox';
import type { AuditWriter } from '../audit/writer.ts';
import { exportAudit, followAudit, newestCheckpoint } from '../store/audit-log.ts';
import type { Database } from '../store/sql.ts';
import { type AdminRoute, TOKEN_HOLDER } from './admin-route.ts';

/** The audit log for the command line: whole, or as it grows. One JSON object a line. */

const NDJSON = 'application/x-ndjson';

export function auditRoutes(database: Database, audit: Pick<AuditWriter, 'append'>): AdminRoute[] {
  return [
    {
      method: 'GET',
      path: '/audit/export',
      summary: 'The whole log up to its newest checkpoint; `strongroom audit verify` checks it offline.',
      query: Type.Object(
        {
          partition: Type.Optional(
            Type.String({ pattern: '^[1-9][0-9]{0,9}$', description: 'Entries per partition, about.' }),
          ),
          first: Type.Optional(Type.String({ pattern: '^[0-9]{1,15}$', description: 'Go on from this index.' })),
          frontier: Type.Optional(
            Type.String({
              pattern: '^([0-9a-f]{64}){0,64}$',
              description: 'The tree before that index, as an earlier export says it.',
            }),
          ),
        },
        { additionalProperties: false },
      ),
      answer: NDJSON,
      handle: async (request) => {
        const { partition, first, frontier } = request.query as {
          partition?: string;
          first?: string;
          frontier?: string;
        };
        const size = (await newestCheckpoint(database.sql))?.size ?? 0;
        const hashes = frontier?.match(/.{64}/g) ?? [];
        const options = {
          ...(partition === undefined ? {} : { partitionEntries: Number(partition) }),
          ...(first === undefined
            ? {}
            : { start: { first: Number(first), frontier: hashes.map((hash) => Buffer.from(hash, 'hex')) } }),
        };
        await audit.append('audit.exported', { size, by: TOKEN_HOLDER, source: request.ip || null });
        return Readable.from(withNewlines(exportAudit(database.sql, options)), { objectMode: false });
      },
    },
    {
      method: 'GET',
      path: '/audit/tail',
      summary: 'Entries as they get their index. `from`: an index, or so many before the end when negative.',
      query: Type.Object(
        { from: Type.Optional(Type.String({ pattern: '^-?[0-9]{1,15}$' })) },
        { additionalProperties: false },
      ),
      answer: NDJSON,
      handle: async (request, reply) => {
        const gone = new AbortController();
        reply.raw.on('close', () => gone.abort());
        const { from } = request.query as { from?: string };
        const start = from === undefined ? {} : { from: Number(from) };
        return Readable.from(withNewlines(followAudit(database.sql, { ...start, signal: gone.signal })), {
          objectMode: false,
        });
      },
    },
  ];
}

async function* withNewlines(lines: AsyncIterable<string>): AsyncIterable<string> {
  for await (const line of lines) yield `${line}\n`;
}
