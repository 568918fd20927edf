import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  consistencyProof,
  EMPTY_ROOT,
  Frontier,
  inclusionProof,
  leafHash,
  verifyConsistency,
  verifyInclusion,
} from '../../src/audit/tree.ts';

const sha256 = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();
const leafOf = (content: Uint8Array) => sha256(Buffer.of(0), content);

/** RFC 6962 section 2.1, word for word and without any thought for speed. */
function naiveRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0] as Buffer;
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return sha256(Buffer.of(1), naiveRoot(leaves.slice(0, k)), naiveRoot(leaves.slice(k)));
}

function frontierOf(leaves: readonly Buffer[]): Frontier {
  const frontier = new Frontier();
  for (const leaf of leaves) frontier.append(leaf);
  return frontier;
}

const leavesOf = (count: number) => Array.from({ length: count }, (_, i) => leafOf(Buffer.from(`leaf ${i}`)));
const someLeaves = fc.array(fc.uint8Array({ maxLength: 8 }).map(leafOf), { minLength: 1, maxLength: 70 });

test('the roots of the published certificate transparency test tree come out', () => {
  // The eight leaves that implementations of RFC 6962 share as test data.
  const leaves = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'];
  const roots = [
    '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
    'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
    'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
    'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
    '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
    'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
    '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
  ];
  assert.equal(EMPTY_ROOT.toString('hex'), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  const frontier = new Frontier();
  leaves.forEach((leaf, i) => {
    frontier.append(leafOf(Buffer.from(leaf, 'hex')));
    assert.equal(frontier.root().toString('hex'), roots[i]);
  });
});

test('a leaf is hashed with a zero byte before it', () => {
  assert.equal(leafHash('an entry'), leafOf(Buffer.from('an entry')).toString('hex'));
});

test('every prefix has the root that RFC 6962 defines', () => {
  fc.assert(
    fc.property(someLeaves, (leaves) => {
      const frontier = new Frontier();
      leaves.forEach((leaf, i) => {
        frontier.append(leaf);
        assert.deepEqual(frontier.root(), naiveRoot(leaves.slice(0, i + 1)));
      });
    }),
  );
});

test('a frontier that was written down goes on as if it had never stopped', () => {
  fc.assert(
    fc.property(someLeaves, fc.nat(), (leaves, seed) => {
      const cut = seed % (leaves.length + 1);
      const resumed = Frontier.from(cut, frontierOf(leaves.slice(0, cut)).bytes());
      for (const leaf of leaves.slice(cut)) resumed.append(leaf);
      assert.deepEqual(resumed.root(), naiveRoot(leaves));
      assert.deepEqual(resumed.bytes(), frontierOf(leaves).bytes());
    }),
  );
});

test('a copy does not follow its original', () => {
  const frontier = frontierOf(leavesOf(5));
  const copy = frontier.copy();
  frontier.append(leafOf(Buffer.from('more')));
  assert.deepEqual(copy.root(), naiveRoot(leavesOf(5)));
});

test('a frontier that does not fit its size is refused', () => {
  const bytes = frontierOf(leavesOf(5)).bytes();
  for (const size of [0, 1, 4, 7, -1, 1.5]) assert.throws(() => Frontier.from(size, bytes), RangeError, String(size));
  assert.throws(() => Frontier.from(5, bytes.subarray(1)), RangeError);
});

test('sizes past 32 bits keep their bits', () => {
  const size = 2 ** 33 + 1;
  const frontier = new Frontier(size, [leafOf(Buffer.of(1)), leafOf(Buffer.of(2))]);
  frontier.append(leafOf(Buffer.of(3)));
  assert.equal(frontier.size, size + 1);
  assert.equal(frontier.hashes.length, 2);
});

test('every leaf of every tree is proven, and no other', () => {
  for (let size = 1; size <= 33; size++) {
    const leaves = leavesOf(size);
    const root = naiveRoot(leaves);
    leaves.forEach((leaf, index) => {
      const proof = inclusionProof(leaves, index);
      assert.ok(verifyInclusion(leaf, index, size, proof, root), `${index} of ${size}`);
      if (size > 1) assert.ok(!verifyInclusion(leaf, (index + 1) % size, size, proof, root), `${index} moved`);
      assert.ok(!verifyInclusion(leafOf(Buffer.from('other')), index, size, proof, root));
      assert.ok(!verifyInclusion(leaf, index, size, [...proof, root], root), 'a hash too many');
      if (proof.length > 0) assert.ok(!verifyInclusion(leaf, index, size, proof.slice(1), root), 'a hash too few');
    });
  }
});

test('every prefix of every tree is proven consistent, and no other history', () => {
  for (let to = 0; to <= 33; to++) {
    const leaves = leavesOf(to);
    const root = naiveRoot(leaves);
    for (let from = 0; from <= to; from++) {
      const older = naiveRoot(leaves.slice(0, from));
      const proof = consistencyProof(leaves, from);
      assert.ok(verifyConsistency(from, older, to, root, proof), `${from} in ${to}`);
      const forged = [...leaves.slice(0, Math.max(0, from - 1)), leafOf(Buffer.from('forged'))];
      if (from > 0) assert.ok(!verifyConsistency(from, naiveRoot(forged), to, root, proof), `${from} forged in ${to}`);
      assert.ok(!verifyConsistency(from, older, to, root, [...proof, root]), 'a hash too many');
      if (proof.length > 0) assert.ok(!verifyConsistency(from, older, to, root, proof.slice(1)), 'a hash too few');
    }
  }
});

test('a proof with any bit flipped proves nothing', () => {
  const leaves = leavesOf(13);
  const root = naiveRoot(leaves);
  fc.assert(
    fc.property(fc.nat(12), fc.nat(), fc.nat(255), (index, at, bit) => {
      const proof = inclusionProof(leaves, index).map((hash) => Buffer.from(hash));
      const hash = proof[at % proof.length] as Buffer;
      hash[bit >> 3] = (hash[bit >> 3] as number) ^ (1 << (bit & 7));
      assert.ok(!verifyInclusion(leaves[index] as Buffer, index, 13, proof, root));
    }),
  );
});

test('impossible questions are answered with no', () => {
  const leaf = leafOf(Buffer.of(1));
  for (const [index, size] of [
    [-1, 1],
    [1, 1],
    [0, 0],
    [0.5, 1],
  ] as const) {
    assert.ok(!verifyInclusion(leaf, index, size, [], leaf));
  }
  assert.ok(!verifyConsistency(2, leaf, 1, leaf, []));
  assert.ok(!verifyConsistency(-1, leaf, 1, leaf, []));
  assert.throws(() => inclusionProof([leaf], 1), RangeError);
  assert.throws(() => consistencyProof([leaf], 2), RangeError);
});
