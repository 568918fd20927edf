import { once } from 'node:events';
import type { ParseArgsConfig } from 'node:util';
import { parseArgs } from 'node:util';
import type { LogStart } from '../audit/export.ts';
import { parseLine } from '../audit/export-lines.ts';
import { StrongroomError } from '../base/errors.ts';
import { exportToFolder } from './audit-folder.ts';
import type { Command, Io } from './command.ts';

/**
 * `audit export` and `audit tail`: reading the log of a running installation. How
 * it is reached (admin API, database) is the connector's business.
 */

export interface AuditSource {
  /** Lines of the whole log, or from where an earlier export's last partition began. */
  lines(options: { readonly start?: LogStart; readonly partitionEntries?: number }): AsyncIterable<string>;
  /** Entry lines as they get their index. Negative `from`: so many before the end. */
  follow(options: { readonly from?: number; readonly signal: AbortSignal }): AsyncIterable<string>;
  close(): Promise<void>;
}

export interface AuditConnector {
  /** Options that say where the log is, for `util.parseArgs`, and their help: whole lines. */
  readonly options: NonNullable<ParseArgsConfig['options']>;
  readonly help: string;
  open(values: Readonly<Record<string, unknown>>): Promise<AuditSource>;
}

export function auditExport(connector: AuditConnector): Command {
  return {
    name: 'audit export',
    summary: 'Write the audit log as files that anybody can check.',
    usage: `usage: strongroom audit export [--out FOLDER] [--partition N] [--json]

Writes the log up to its newest checkpoint as JSON lines (docs/formats/audit.md):
to standard output, or with --out into one file per partition. Into a folder that
holds an earlier export only what is new is written. Check it with
strongroom audit verify.

  --out FOLDER    write files audit-<first index>.jsonl, each put in place when whole
  --partition N   entries per file, about; the same for all exports into a folder (default 100000)
  --json          print what was written as JSON (with --out)
${connector.help}`,

    async run(argv, io) {
      const { values } = parseArgs({
        args: argv,
        options: {
          ...connector.options,
          out: { type: 'string' },
          partition: { type: 'string' },
          json: { type: 'boolean' },
        },
      }) as { values: Readonly<Record<string, string | boolean | undefined>> };
      const partitionEntries =
        values.partition === undefined ? undefined : wholeNumber('--partition', values.partition, 1);
      const options = partitionEntries === undefined ? {} : { partitionEntries };
      const source = await connector.open(values);
      try {
        if (typeof values.out !== 'string') {
          for await (const line of source.lines(options)) await print(io, line);
          return 'ok';
        }
        const written = await exportToFolder(values.out, (start) =>
          source.lines(start === null ? options : { ...options, start }),
        );
        const { files, size, lines } = written;
        io.stdout.write(
          values.json === true
            ? `${JSON.stringify(written)}\n`
            : `${files.length} file(s) with ${lines} lines in ${values.out}; the log has ${size} entries\n`,
        );
        return 'ok';
      } finally {
        await source.close();
      }
    },
  };
}

export function auditTail(connector: AuditConnector): Command {
  return {
    name: 'audit tail',
    summary: 'Show audit entries as they come.',
    usage: `usage: strongroom audit tail [--last N | --from INDEX] [--json]

Shows entries once they have their place in the log, about a second after they
were written. Ends with Ctrl-C.

  --last N      begin N entries before the end (default 10)
  --from INDEX  begin at this entry
  --json        print the export's entry lines
${connector.help}`,

    async run(argv, io) {
      const { values } = parseArgs({
        args: argv,
        options: {
          ...connector.options,
          last: { type: 'string' },
          from: { type: 'string' },
          json: { type: 'boolean' },
        },
      }) as { values: Readonly<Record<string, string | boolean | undefined>> };
      if (values.last !== undefined && values.from !== undefined) {
        throw new StrongroomError('USAGE', { detail: 'Write either --last or --from.' });
      }
      // Minus zero entries before the end is the end: -0 would read as the beginning.
      const last = wholeNumber('--last', values.last ?? '10', 0);
      const from = values.from === undefined ? (last === 0 ? undefined : -last) : wholeNumber('--from', values.from, 0);
      const stopped = new AbortController();
      io.stdout.once('close', () => stopped.abort());
      const source = await connector.open(values);
      try {
        for await (const line of source.follow({ ...(from === undefined ? {} : { from }), signal: stopped.signal })) {
          await print(io, values.json === true ? line : forPeople(line));
        }
        return 'ok';
      } finally {
        await source.close();
      }
    },
  };
}

/** Entries are printable ASCII, whatever was written into them: nothing here can move a cursor. */
export function forPeople(line: string): string {
  const read = parseLine(line);
  if (read?.type !== 'entry' || read.entry === null) return '(an entry that cannot be read)';
  const { at, kind, writer } = read.entry;
  const rest = /"kind":"[^"]*",?(.*)\}$/.exec(read.text)?.[1] ?? '';
  return `${String(read.index).padStart(8)}  ${at}  ${kind.padEnd(20)}  ${writer.slice(0, 8)}  ${rest}`;
}

async function print({ stdout }: Io, line: string): Promise<void> {
  // Waiting for a slow reader keeps memory constant.
  if (!stdout.write(`${line}\n`)) await once(stdout, 'drain');
}

function wholeNumber(option: string, text: string | boolean, least: number): number {
  const number = typeof text === 'string' && /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(number >= least))
    throw new StrongroomError('USAGE', { detail: `${option} takes a whole number from ${least}.` });
  return number;
}
