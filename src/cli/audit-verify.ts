import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { type Checkpoint, parseVerifier, type Verifier } from '../audit/checkpoint.ts';
import { readHeads } from '../audit/heads.ts';
import { type AuditReport, verifyAudit } from '../audit/verify.ts';
import { StrongroomError } from '../base/errors.ts';
import { exportParts } from './audit-folder.ts';
import type { Command, Io } from './command.ts';

/** Works from an export alone: no server, no database, no secret. */
export const auditVerify: Command = {
  name: 'audit verify',
  summary: 'Check that an exported audit log is complete and unaltered.',
  usage: `usage: strongroom audit verify PATH... [--key KEY] [--head FILE] [--json]

PATH is a file or folder of strongroom audit export, or - for standard input.
Names the first missing, altered, reordered, doubled or forked entry.

  --key KEY    the log's verification key (name+id+base64), or a file that holds it; may be repeated.
               Without it the key is taken from the export: that finds damage, but
               not a log that somebody rewrote and signed with a key of their own.
  --head FILE  a signed head that was kept elsewhere, or a file of them (audit.heads); may be
               repeated. Only this shows that the end of the log was cut.
  --json       print the report as JSON

Exit codes: 0 sound, 1 a finding, 2 usage, 3 failed.
`,

  async run(argv, io) {
    const { values, positionals } = parseArgs({
      args: argv,
      allowPositionals: true,
      options: {
        key: { type: 'string', multiple: true, default: [] },
        head: { type: 'string', multiple: true, default: [] },
        json: { type: 'boolean', default: false },
      },
    });
    if (positionals.length === 0) throw new StrongroomError('USAGE', { detail: 'Name the export.' });
    if (values.head.length > 0 && values.key.length === 0 && positionals.includes('-')) {
      throw new StrongroomError('USAGE', { detail: '--head needs --key when the export comes from standard input.' });
    }
    const verifiers = await Promise.all(values.key.map(readKey));
    const parts = await exportParts(positionals, io.stdin);
    const onProgress = progressTo(io);

    let report = await verifyAudit(parts, {
      verifiers,
      ...(await headsOf(values.head, verifiers)),
      ...onProgress.option,
    });
    if (values.head.length > 0 && verifiers.length === 0) {
      // The heads can be read only now that the export has named its keys.
      const named = report.keys.flatMap((vkey) => parseVerifier(vkey) ?? []);
      const again = await exportParts(positionals, io.stdin);
      report = await verifyAudit(again, { ...(await headsOf(values.head, named)), ...onProgress.option });
    }
    onProgress.end();
    io.stdout.write(values.json ? `${JSON.stringify(report)}\n` : forPeople(report));
    return report.sound ? 'ok' : 'finding';
  },
};

async function readKey(text: string): Promise<Verifier> {
  const key = parseVerifier(text) ?? parseVerifier((await readFile(text, 'utf8').catch(() => '')).trim());
  if (key === null)
    throw new StrongroomError('INPUT_INVALID', { detail: '--key takes a verification key or a file with one.' });
  return key;
}

/** @throws StrongroomError `INPUT_INVALID` when a file holds no head that one of the keys signed. */
async function headsOf(files: readonly string[], verifiers: readonly Verifier[]): Promise<{ heads?: Checkpoint[] }> {
  if (files.length === 0 || verifiers.length === 0) return {};
  const heads: Checkpoint[] = [];
  for (const file of files) {
    const found = await readHeads(file, verifiers).catch(() => null);
    if (found === null) throw new StrongroomError('INPUT_INVALID', { detail: `There is no ${file}.` });
    if (found.heads.length === 0) {
      throw new StrongroomError('INPUT_INVALID', { detail: `${file} holds no head that a key of this log signed.` });
    }
    heads.push(...found.heads);
  }
  return { heads };
}

function forPeople(report: AuditReport): string {
  const { first, size, entries, writers, origin, root, findings, findingsTotal } = report;
  const lines = [
    `${report.sound ? 'sound' : 'BROKEN'}  ${entries} entries (${first} to ${size}) of ${writers} writers  ${origin ?? 'no log'}`,
    `root   ${root ?? 'not proven'}`,
  ];
  if (!report.keysGiven)
    lines.push(
      'note   the key was taken from the export itself; give it with --key to exclude a log that was signed anew',
    );
  if (report.headsCompared > 0) lines.push(`heads  ${report.headsCompared} from elsewhere agree or are named below`);
  if (report.headsUnproven > 0) lines.push(`note   ${report.headsUnproven} heads lie outside what could be proven`);
  if (report.unknownKinds > 0)
    lines.push(`note   ${report.unknownKinds} entries are of kinds that this version does not know`);
  for (const { code, says, file, line } of findings.slice(0, 20)) {
    lines.push(`${code.padEnd(10)} ${says}${file === null ? '' : `  [${file}:${line}]`}`);
  }
  if (findingsTotal > 20) lines.push(`... ${findingsTotal - 20} more; --json lists up to 1000`);
  return `${lines.join('\n')}\n`;
}

/** A counter on a terminal only, and only once there is something to wait for. */
function progressTo({ stderr }: Io) {
  const shown = (stderr as Partial<NodeJS.WriteStream>).isTTY === true;
  let written = false;
  return {
    option: shown
      ? {
          onProgress: (entries: number) => {
            written = true;
            stderr.write(`\r${entries} entries`);
          },
        }
      : {},
    end: () => {
      if (written) stderr.write('\r\u001b[K');
    },
  };
}
