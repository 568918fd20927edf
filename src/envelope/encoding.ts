/**
 * The one canonical encoding of lists of texts that this room authenticates:
 * each text as its length in UTF-8 bytes (4 bytes, big-endian), then the bytes.
 * A list has one encoding and an encoding has one list, so no two contexts can
 * be confused by moving characters over a border ("ab","c" and "a","bc" differ).
 */
export function lengthPrefixed(...texts: string[]): Buffer {
  let length = 0;
  for (const text of texts) {
    // A lone surrogate would be written as U+FFFD, so that two texts shared one encoding.
    if (!text.isWellFormed()) throw new RangeError('a text to authenticate is not well-formed Unicode');
    length += 4 + Buffer.byteLength(text, 'utf8');
  }
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  for (const text of texts) {
    const written = bytes.write(text, at + 4, 'utf8');
    bytes.writeUInt32BE(written, at);
    at += 4 + written;
  }
  return bytes;
}
