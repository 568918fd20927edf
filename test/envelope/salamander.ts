import { createCipheriv } from 'node:crypto';

/**
 * Makes bytes that plain AES-256-GCM accepts under two keys: an "invisible
 * salamander" (Dodis, Grubbs, Ristenpart, Woodage, CRYPTO 2018; Len, Grubbs,
 * Ristenpart, USENIX Security 2021). GCM's tag is linear in each ciphertext block,
 * so one block can be chosen such that both keys agree on the tag.
 */

type Block = bigint;

// Elements of GF(2^128) with GCM's bit order: the first bit of a block is its lowest power.
const R = 0xe1n << 120n;

function multiply(x: Block, y: Block): Block {
  let product = 0n;
  let v = y;
  for (let bit = 127n; bit >= 0n; bit--) {
    if ((x >> bit) & 1n) product ^= v;
    v = v & 1n ? (v >> 1n) ^ R : v >> 1n;
  }
  return product;
}

function power(x: Block, exponent: bigint): Block {
  let result = 1n << 127n; // the element one
  for (let square = x, left = exponent; left > 0n; left >>= 1n, square = multiply(square, square)) {
    if (left & 1n) result = multiply(result, square);
  }
  return result;
}

const inverse = (x: Block): Block => power(x, (1n << 128n) - 2n);
const toBlock = (bytes: Buffer): Block => BigInt(`0x${bytes.toString('hex') || '0'}`);
const toBytes = (block: Block): Buffer => Buffer.from(block.toString(16).padStart(32, '0'), 'hex');

function blocks(bytes: Buffer): Block[] {
  const padded = Buffer.concat([bytes, Buffer.alloc(-bytes.length & 15)]);
  return Array.from({ length: padded.length / 16 }, (_, i) => toBlock(padded.subarray(i * 16, i * 16 + 16)));
}

const ecb = (key: Buffer, block: Buffer): Buffer => {
  const cipher = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
  return Buffer.concat([cipher.update(block), cipher.final()]);
};
const counterBlock = (nonce: Buffer, counter: number): Buffer => Buffer.concat([nonce, Buffer.of(0, 0, 0, counter)]);

/**
 * Ciphertext and tag that open under both keys. `lead` and `trail` (16 bytes each)
 * are what the first key finds in the first and the last block; the middle block is
 * the one that makes the tags agree.
 */
export function salamander(
  [one, two]: [Buffer, Buffer],
  nonce: Buffer,
  aad: Buffer,
  lead: Buffer,
  trail: Buffer,
): { ciphertext: Buffer; tag: Buffer; underOne: Buffer } {
  const stream = [2, 3, 4].map((counter) => ecb(one, counterBlock(nonce, counter)));
  const xor = (a: Buffer, b: Buffer) => Buffer.from(a.map((byte, i) => byte ^ (b[i] as number)));
  const first = xor(lead, stream[0] as Buffer);
  const last = xor(trail, stream[2] as Buffer);

  const lengths = Buffer.alloc(16);
  lengths.writeUInt32BE(aad.length * 8, 4);
  lengths.writeUInt32BE(48 * 8, 12);
  const all = [...blocks(aad), toBlock(first), 0n, toBlock(last), toBlock(lengths)];
  const side = (key: Buffer) => {
    const h = toBlock(ecb(key, Buffer.alloc(16)));
    const mask = toBlock(ecb(key, counterBlock(nonce, 1)));
    // Horner: the middle block is third from the end, so it counts times h^3.
    const rest = all.reduce((sum, block) => multiply(sum ^ block, h), 0n) ^ mask;
    return { rest, weight: power(h, 3n) };
  };
  const [a, b] = [side(one), side(two)];
  const middle = multiply(a.rest ^ b.rest, inverse(a.weight ^ b.weight));
  return {
    ciphertext: Buffer.concat([first, toBytes(middle), last]),
    tag: toBytes(a.rest ^ multiply(middle, a.weight)),
    underOne: Buffer.concat([lead, xor(toBytes(middle), stream[1] as Buffer), trail]),
  };
}
