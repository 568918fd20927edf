import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { ADMIN_OPTIONS, ADMIN_USAGE, openAdmin } from './admin-client.ts';
import type { AuditConnector } from './audit.ts';

/** Reads the log of a running installation over its admin API. */
export const adminAuditConnector: AuditConnector = {
  options: ADMIN_OPTIONS,
  help: ADMIN_USAGE,

  async open(values) {
    const admin = await openAdmin(values, process.stdin);
    return {
      async *lines({ start, partitionEntries }) {
        const query = new URLSearchParams();
        if (partitionEntries !== undefined) query.set('partition', String(partitionEntries));
        if (start !== undefined) {
          query.set('first', String(start.first));
          query.set('frontier', Buffer.concat([...start.frontier]).toString('hex'));
        }
        yield* linesOf(await admin.stream(`/audit/export?${query}`));
      },
      async *follow({ from, signal }) {
        const body = await admin.stream(`/audit/tail${from === undefined ? '' : `?from=${from}`}`);
        const end = () => body.destroy();
        signal.addEventListener('abort', end, { once: true });
        try {
          yield* linesOf(body);
        } catch (error) {
          if (!signal.aborted) throw error;
        } finally {
          signal.removeEventListener('abort', end);
        }
      },
      close: () => admin.close(),
    };
  },
};

async function* linesOf(body: Readable): AsyncIterable<string> {
  for await (const line of createInterface({ input: body, crlfDelay: Number.POSITIVE_INFINITY })) {
    if (line !== '') yield line;
  }
}
