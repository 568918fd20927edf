import { parseArgs } from 'node:util';
import { StrongroomError } from '../base/errors.ts';
import { ADMIN_OPTIONS, ADMIN_USAGE, withAdmin } from './admin-client.ts';
import type { Command, Outcome } from './command.ts';
import { printJson, table } from './print.ts';

/** Records from the command line: what is held, in which state, and what is unsettled. */

interface Item {
  readonly record_id: string;
  readonly kind: string;
  readonly application_id: string;
  readonly item_id: string | null;
  readonly version: number;
  readonly state: string;
  readonly health: string;
  readonly health_code: string | null;
  readonly created_at: string;
  readonly changed_at: string;
}

interface Operation {
  readonly operation_id: string;
  readonly kind: string;
  readonly record_id: string | null;
  readonly application_id: string;
  readonly state: string;
  readonly reason: string | null;
  readonly opened_at: string;
}

const COMMON = `${ADMIN_USAGE}
  --json              Print JSON.`;

export const itemsList: Command = {
  name: 'items list',
  summary: 'List records, or with --unsettled what is open or uncertain.',
  usage: `usage: strongroom items list [--app ID] [--state STATE] [--limit N] [--before TIME] [--unsettled]

  --app ID            Only records of this application.
  --state STATE       active, rotating, uncertain, lost, external, frozen, removing or removed.
  --limit N           At most so many, newest first. Default 100, at most 1000.
  --before TIME       The next page: the time of the last line.
  --unsettled         Open and uncertain rotations, removals and exchanges (possible orphans).
                      Exits with 1 when there are any.
${COMMON}`,

  run: (argv, io) => {
    const { values } = parseArgs({
      args: argv,
      options: {
        ...ADMIN_OPTIONS,
        json: { type: 'boolean', default: false },
        app: { type: 'string' },
        state: { type: 'string' },
        limit: { type: 'string' },
        before: { type: 'string' },
        unsettled: { type: 'boolean', default: false },
      },
    });
    return withAdmin(values, io, async (admin) => {
      if (values.unsettled) {
        const { operations } = await admin.call<{ operations: Operation[] }>('GET', '/operations');
        if (values.json) printJson(io, { operations });
        else if (operations.length === 0) io.stdout.write('Nothing is unsettled.\n');
        else {
          const rows = operations.map((operation) => [
            operation.opened_at,
            operation.kind,
            operation.state,
            operation.record_id ?? '-',
            operation.application_id,
            operation.reason ?? '-',
          ]);
          io.stdout.write(table(['SINCE', 'KIND', 'STATE', 'RECORD', 'APPLICATION', 'REASON'], rows));
        }
        return operations.length === 0 ? 'ok' : 'finding';
      }
      const query = new URLSearchParams();
      if (values.app !== undefined) query.set('application', values.app);
      for (const name of ['state', 'limit', 'before'] as const) {
        const value = values[name];
        if (value !== undefined) query.set(name, value);
      }
      const { items } = await admin.call<{ items: Item[] }>('GET', `/items?${query}`);
      if (values.json) printJson(io, { items });
      else if (items.length === 0) io.stdout.write('No records.\n');
      else {
        const rows = items.map((item) => [
          item.record_id,
          item.kind,
          item.state,
          item.health,
          String(item.version),
          item.application_id,
          item.created_at,
        ]);
        io.stdout.write(table(['RECORD', 'KIND', 'STATE', 'HEALTH', 'VERSION', 'APPLICATION', 'SINCE'], rows));
      }
      return 'ok';
    });
  },
};

export const itemsShow: Command = {
  name: 'items show',
  summary: 'Show one record.',
  usage: `usage: strongroom items show RECORD

${COMMON}`,

  run: (argv, io) => {
    const { values, positionals } = parseArgs({
      args: argv,
      allowPositionals: true,
      options: { ...ADMIN_OPTIONS, json: { type: 'boolean', default: false } },
    });
    const [record] = positionals;
    if (record === undefined || positionals.length > 1 || !/^[0-9a-f-]{36}$/.test(record)) {
      throw new StrongroomError('USAGE', { detail: 'It takes one record id, as `items list` prints it.' });
    }
    return withAdmin(values, io, async (admin): Promise<Outcome> => {
      const item = await admin.call<Item>('GET', `/items/${record}`);
      if (values.json) printJson(io, item);
      else for (const [name, value] of Object.entries(item)) io.stdout.write(`${name.padEnd(16)}${value ?? '-'}\n`);
      return 'ok';
    });
  },
};
