import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { openCheckpoint, parseVerifier } from '../../src/audit/checkpoint.ts';
import { inclusionProof, leafHash } from '../../src/audit/tree.ts';
import { MemoryLog, SIGNER } from './memory-log.ts';

/**
 * What docs/formats/audit.md promises: somebody with a shell, openssl and the
 * public key can check a checkpoint and an entry without a line of our code. Only
 * the making of the files below is ours.
 */

let folder: string;
before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'strongroom-third-'));
  const log = new MemoryLog();
  const writer = await log.startWriter();
  for (let from = 0; from < 6; from++) await writer.append('schema.migrated', { from, to: from + 1 });
  await log.sequence();
  const lines = await log.lines();
  writeFileSync(path.join(folder, 'export.jsonl'), lines.map((line) => `${line}\n`).join(''));
  const checkpoint = lines.findLast((line) => line.startsWith('{"checkpoint":'));
  writeFileSync(path.join(folder, 'note'), JSON.parse(checkpoint ?? '').checkpoint);
  // RFC 6962 audit path of entry 4 among 7, as hex lines, for the shell to climb.
  const leaves = lines.flatMap((line) => {
    const entry = /^\{"index":\d+,"entry":(.*)\}$/.exec(line)?.[1];
    return entry === undefined ? [] : [Buffer.from(leafHash(entry), 'hex')];
  });
  writeFileSync(
    path.join(folder, 'path'),
    inclusionProof(leaves, 4)
      .map((hash) => `${hash.toString('hex')}\n`)
      .join(''),
  );
});
after(() => rmSync(folder, { recursive: true }));

function shell(script: string, environment: Record<string, string> = {}): string {
  const { status, stdout, stderr } = spawnSync('sh', ['-eu', '-c', script], {
    cwd: folder,
    encoding: 'utf8',
    env: { PATH: process.env.PATH ?? '', LC_ALL: 'C', ...environment },
  });
  assert.equal(status, 0, stderr);
  return stdout;
}

// name+id+base64(0x01 || 32 bytes) becomes a public key in the form that openssl reads (RFC 8410).
const KEY_TO_PEM = `
  { printf '\\060\\052\\060\\005\\006\\003\\053\\145\\160\\003\\041\\000'
    printf '%s' "$VKEY" | cut -d + -f 3- | base64 -d | tail -c 32; } > key.der
  openssl pkey -pubin -inform DER -in key.der -out key.pem`;

// The text is all up to the blank line; the signature is the last 64 bytes of the last line's base64.
const CHECK_SIGNATURE = `
  sed '/^$/,$d' note > text
  tail -n 1 note | sed 's/.* //' | base64 -d | tail -c 64 > signature
  openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in text -sigfile signature`;

test('openssl and a shell verify the signature of a checkpoint', () => {
  assert.match(shell(KEY_TO_PEM + CHECK_SIGNATURE, { VKEY: SIGNER.vkey }), /Verified Successfully/);
  const forge = "cp note whole; sed '2s/.*/8/' whole > note";
  assert.match(
    shell(`${KEY_TO_PEM}\n${forge}\n${CHECK_SIGNATURE} || echo refused; mv whole note`, { VKEY: SIGNER.vkey }),
    /refused/,
  );
});

test('openssl and a shell follow the chain and hash an entry up to the signed root', () => {
  const script = `
    hash() { openssl dgst -sha256 -r | cut -d ' ' -f 1; }
    entry() { sed -n "s/^{\\"index\\":$1,\\"entry\\":\\(.*\\)}$/\\1/p" export.jsonl | tr -d '\\n'; }
    leaf() { { printf '\\000'; entry "$1"; } | hash; }

    # Entry 5 of the only writer names the hash of entry 4.
    test "$(leaf 4)" = "$(entry 5 | sed 's/.*"prev":"\\([0-9a-f]*\\)".*/\\1/')"

    # Entry 4 of 7: 100 in binary. Its siblings: leaf 5 (right), node 6 (right), the left four.
    node=$(leaf 4)
    set -- $(cat path)
    join() { { printf '\\001'; printf '%s' "$1$2" | perl -pe 's/(..)/chr(hex($1))/ge'; } | hash; }
    node=$(join "$node" "$1")
    node=$(join "$node" "$2")
    node=$(join "$3" "$node")
    test "$node" = "$(sed -n 3p note | base64 -d | perl -pe 'BEGIN{binmode STDIN} s/(.)/sprintf("%02x",ord($1))/gse')"
    echo "$node"`;
  const root = shell(script).trim();
  const opened = openCheckpoint(shell('cat note'), [parseVerifier(SIGNER.vkey) ?? assert.fail()]);
  assert.ok(opened.ok);
  assert.equal(root, opened.checkpoint.root.toString('hex'));
});
