import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import type { LogStart } from '../audit/export.ts';
import { parseLine } from '../audit/export-lines.ts';
import type { ExportPart } from '../audit/verify.ts';
import { StrongroomError } from '../base/errors.ts';

/** An export as a folder: one file per partition, named by its first entry so that they sort. */

const NAME = /^audit-(\d{16})\.jsonl$/;

export interface WrittenExport {
  readonly files: readonly string[];
  readonly lines: number;
  /** Entries that the log has at the end of this export. */
  readonly size: number;
}

/**
 * Writes partitions, each under a temporary name until it is whole and synced. A
 * folder with an earlier export is gone on with: its last file is written anew.
 *
 * @param linesFrom - Gives the lines; `start` is null for the whole log.
 * @throws StrongroomError `INPUT_INVALID` when the folder's last file is no export.
 */
export async function exportToFolder(
  folder: string,
  linesFrom: (start: LogStart | null) => AsyncIterable<string>,
): Promise<WrittenExport> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const last = (await partitionFiles(folder)).at(-1);
  const start = last === undefined ? null : await startOf(path.join(folder, last));
  const files: string[] = [];
  let lines = 0;
  let size = start?.first ?? 0;
  let current: { file: FileHandle; partial: string; name: string; buffer: string } | null = null;

  const finish = async () => {
    if (current === null) return;
    await current.file.appendFile(current.buffer);
    await current.file.sync();
    await current.file.close();
    await rename(current.partial, path.join(folder, current.name));
    files.push(current.name);
    current = null;
  };

  try {
    for await (const line of linesFrom(start)) {
      const first = line.startsWith('{"export":') ? firstOf(line) : null;
      if (first !== null) {
        await finish();
        const name = `audit-${String(first).padStart(16, '0')}.jsonl`;
        const partial = path.join(folder, `.${name}.partial`);
        current = { file: await open(partial, 'w', 0o600), partial, name, buffer: '' };
      }
      if (current === null) throw new StrongroomError('INTERNAL', { reason: 'an export begins with its first line' });
      if (line.startsWith('{"index":')) size = Number(/^\{"index":(\d+)/.exec(line)?.[1]) + 1;
      current.buffer += `${line}\n`;
      lines++;
      if (current.buffer.length > 262_144) {
        await current.file.appendFile(current.buffer);
        current.buffer = '';
      }
    }
    await finish();
  } finally {
    const left = current as { file: FileHandle; partial: string } | null;
    await left?.file.close();
    if (left !== null) await rm(left.partial, { force: true });
  }
  return { files, lines, size };
}

/**
 * The parts of an export as given on a command line: files in the given order, a
 * folder's partitions by name, `-` for standard input.
 * @throws StrongroomError `INPUT_INVALID` when there is nothing to read.
 */
export async function exportParts(paths: readonly string[], stdin: NodeJS.ReadableStream): Promise<ExportPart[]> {
  const parts: ExportPart[] = [];
  for (const given of paths) {
    if (given === '-') {
      parts.push({ name: '-', bytes: stdin as unknown as AsyncIterable<Uint8Array> });
      continue;
    }
    const isFolder = await stat(given).then(
      (found) => found.isDirectory(),
      () => null,
    );
    if (isFolder === null) throw new StrongroomError('INPUT_INVALID', { detail: `There is no ${given}.` });
    const files = isFolder ? (await partitionFiles(given)).map((name) => path.join(given, name)) : [given];
    if (files.length === 0) throw new StrongroomError('INPUT_INVALID', { detail: `${given} holds no export.` });
    for (const name of files) parts.push({ name, bytes: readLazily(name) });
  }
  return parts;
}

/** Opened when its turn comes: an export may have more files than a process may hold open. */
async function* readLazily(name: string): AsyncIterable<Uint8Array> {
  yield* createReadStream(name, { highWaterMark: 262_144 });
}

async function partitionFiles(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((name) => NAME.test(name)).sort();
}

async function startOf(file: string): Promise<LogStart> {
  let head = '';
  for await (const chunk of createReadStream(file, { encoding: 'latin1', end: 65_535 })) head += chunk;
  const line = parseLine(head.slice(0, head.indexOf('\n')));
  if (line?.type !== 'header') throw new StrongroomError('INPUT_INVALID', { detail: `${file} is not an export.` });
  return { first: line.header.first, frontier: line.header.frontier };
}

function firstOf(line: string): number {
  const read = parseLine(line);
  if (read?.type !== 'header') throw new StrongroomError('INTERNAL', { reason: 'an export line that is none' });
  return read.header.first;
}
