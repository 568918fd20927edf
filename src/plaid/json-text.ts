/**
 * Reads the words of JSON (RFC 8259) from bytes, forward only. Knows strings,
 * numbers, literals and white space; the grammar of arrays and objects is the
 * subclass's. Stricter than the RFC in one thing: an escape of a lone surrogate
 * is refused, because parsers disagree about what it means.
 *
 * Every method reads at `at` and moves it behind what it read.
 */
import { StrongroomError } from '../base/errors.ts';

export abstract class JsonText {
  protected readonly bytes: Buffer;
  protected at = 0;
  /** About the string read last: has it an escape, a byte beyond ASCII, an upper-case letter? */
  protected escaped = false;
  protected beyondAscii = false;
  protected upper = false;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** Called for every string with an escape, key or value, once it has been read. */
  protected abstract sawEscapes(start: number, end: number): void;

  /** Reads over a string and checks it: no control characters, only the escapes of RFC 8259, no lone surrogates. */
  protected string(): void {
    const bytes = this.bytes;
    const end = bytes.length;
    const start = this.at;
    let i = start + 1;
    let escaped = false;
    let seen = 0;
    let upper = false;
    for (;;) {
      if (i >= end) throw this.malformed(i);
      const c = bytes[i] as number;
      if (c === 0x22) break;
      if (c === 0x5c) {
        escaped = true;
        i = this.escape(i);
        continue;
      }
      if (c < 0x20) throw this.malformed(i);
      if (c >= 0x41 && c <= 0x5a) upper = true;
      seen |= c;
      i++;
    }
    this.at = i + 1;
    this.escaped = escaped;
    this.beyondAscii = seen >= 0x80;
    this.upper = upper;
    if (escaped) this.sawEscapes(start, i + 1);
  }

  /** Checks the escape that begins at `at`; returns where it ends. */
  private escape(at: number): number {
    const c = this.bytes[at + 1];
    if (c !== 0x75) {
      if (c === undefined || !'"\\/bfnrt'.includes(String.fromCharCode(c))) throw this.malformed(at);
      return at + 2;
    }
    const unit = this.hex4(at + 2);
    if (unit < 0xd800 || unit > 0xdfff) return at + 6;
    if (unit < 0xdc00 && this.bytes[at + 6] === 0x5c && this.bytes[at + 7] === 0x75) {
      const low = this.hex4(at + 8);
      if (low >= 0xdc00 && low <= 0xdfff) return at + 12;
    }
    throw this.malformed(at);
  }

  private hex4(at: number): number {
    let unit = 0;
    for (let i = at; i < at + 4; i++) {
      const c = this.bytes[i] ?? 0;
      const digit =
        c >= 0x30 && c <= 0x39 ? c - 0x30 : (c | 0x20) >= 0x61 && (c | 0x20) <= 0x66 ? (c | 0x20) - 0x57 : -1;
      if (digit < 0) throw this.malformed(i);
      unit = unit * 16 + digit;
    }
    return unit;
  }

  protected number(): void {
    const bytes = this.bytes;
    let i = this.at;
    if (bytes[i] === 0x2d) i++;
    const first = bytes[i];
    i = this.digits(i);
    // A number has no leading zero (RFC 8259 section 6).
    if (first === 0x30 && i - this.at > (bytes[this.at] === 0x2d ? 2 : 1)) throw this.malformed();
    if (bytes[i] === 0x2e) i = this.digits(i + 1);
    if (bytes[i] === 0x65 || bytes[i] === 0x45) {
      i++;
      if (bytes[i] === 0x2b || bytes[i] === 0x2d) i++;
      i = this.digits(i);
    }
    this.at = i;
  }

  /** At least one digit. */
  private digits(from: number): number {
    const bytes = this.bytes;
    let i = from;
    while (i < bytes.length && (bytes[i] as number) >= 0x30 && (bytes[i] as number) <= 0x39) i++;
    if (i === from) throw this.malformed(i);
    return i;
  }

  protected word(word: string): void {
    for (let i = 1; i < word.length; i++) {
      if (this.bytes[this.at + i] !== word.charCodeAt(i)) throw this.malformed(this.at + i);
    }
    this.at += word.length;
  }

  protected colon(): void {
    this.space();
    if (this.bytes[this.at] !== 0x3a) throw this.malformed();
    this.at++;
    this.space();
  }

  protected space(): void {
    const bytes = this.bytes;
    let i = this.at;
    while (i < bytes.length) {
      const c = bytes[i] as number;
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) break;
      i++;
    }
    this.at = i;
  }

  /** Decodes the string read last. */
  protected text(start: number, end: number): string {
    if (this.escaped) return JSON.parse(this.bytes.toString('utf8', start, end)) as string;
    return this.decode(start, end);
  }

  protected decode(start: number, end: number): string {
    return this.bytes.toString('utf8', start + 1, end - 1);
  }

  protected malformed(at = this.at): StrongroomError {
    return new StrongroomError('BODY_MALFORMED', { at });
  }
}
