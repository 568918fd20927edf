import { BlockList, isIPv4, isIPv6, SocketAddress } from 'node:net';

/**
 * Where a call comes from: addresses, sets of addresses, and the walk through
 * `X-Forwarded-For`. Only trusted proxies are believed, and by default nobody
 * is: then the address is the socket's.
 */

const MAPPED = '::ffff:';
const CIDR = /^([0-9a-fA-F.:]{2,45})(?:\/(0|[1-9][0-9]{0,2}))?$/;
/** The address of a caller that has none. */
export const UNKNOWN_SOURCE = 'unknown';
/** A proxy chain longer than this is nobody's real set-up. */
const MAX_HOPS = 32;

/**
 * One spelling for one address: IPv6 compressed and in lower case, IPv4-mapped
 * IPv6 (what a dual-stack socket reports) as plain IPv4. Null for anything else,
 * zone ids included.
 */
export function canonicalAddress(text: string): string | null {
  if (isIPv4(text)) return text;
  if (!isIPv6(text) || text.includes('%')) return null;
  const { address } = new SocketAddress({ address: text, family: 'ipv6' });
  if (!address.startsWith(MAPPED)) return address;
  const inner = address.slice(MAPPED.length);
  return isIPv4(inner) ? inner : address;
}

export interface Cidr {
  readonly family: 'ipv4' | 'ipv6';
  readonly address: string;
  readonly prefix: number;
}

/**
 * Reads `10.0.0.0/8`, `2001:db8::/32` or a bare address. Null when it is neither,
 * also when bits beyond the prefix are set: `10.1.2.3/8` may mean one host or
 * sixteen million, and a guess would open the larger one.
 */
export function parseCidr(text: string): Cidr | null {
  const match = CIDR.exec(text);
  const address = match === null ? null : canonicalAddress(match[1] as string);
  if (match === null || address === null) return null;
  const family = isIPv4(address) ? 'ipv4' : 'ipv6';
  const width = family === 'ipv4' ? 32 : 128;
  // `::ffff:10.0.0.0/104` is 10.0.0.0/8 in other clothes.
  const mappedBits = family === 'ipv4' && (match[1] as string).includes(':') ? 96 : 0;
  const prefix = match[2] === undefined ? width : Number(match[2]) - mappedBits;
  if (prefix < 0 || prefix > width || hasBitsBeyond(addressBytes(address), prefix)) return null;
  return { family, address, prefix };
}

function addressBytes(canonical: string): number[] {
  if (isIPv4(canonical)) return canonical.split('.').map(Number);
  const [head = '', tail] = canonical.split('::');
  const groups = (text: string): number[] =>
    text === ''
      ? []
      : text.split(':').flatMap((group) => {
          // inet_ntop writes some addresses with an IPv4 tail.
          if (group.includes('.')) return group.split('.').map(Number);
          const value = Number.parseInt(group, 16);
          return [value >>> 8, value & 255];
        });
  const front = groups(head);
  if (tail === undefined) return front;
  const back = groups(tail);
  return [...front, ...new Array<number>(16 - front.length - back.length).fill(0), ...back];
}

function hasBitsBeyond(bytes: readonly number[], prefix: number): boolean {
  return bytes.some((byte, at) => {
    const kept = Math.min(8, Math.max(0, prefix - at * 8));
    return (byte & (255 >>> kept)) !== 0;
  });
}

/** A set of addresses, given as CIDRs. The empty set holds nobody. */
export class AddressSet {
  // One list per family: a rule such as `::/0` must not be read as "all of IPv4 too".
  readonly #ipv4 = new BlockList();
  readonly #ipv6 = new BlockList();

  /** @throws RangeError for a text that {@link parseCidr} refuses. */
  constructor(cidrs: readonly string[]) {
    for (const text of cidrs) {
      const cidr = parseCidr(text);
      if (cidr === null) throw new RangeError('not a CIDR');
      (cidr.family === 'ipv4' ? this.#ipv4 : this.#ipv6).addSubnet(cidr.address, cidr.prefix, cidr.family);
    }
  }

  /** `address` in any spelling; what is no address is in no set. */
  has(address: string): boolean {
    const canonical = canonicalAddress(address);
    if (canonical === null) return false;
    return isIPv4(canonical) ? this.#ipv4.check(canonical, 'ipv4') : this.#ipv6.check(canonical, 'ipv6');
  }
}

/**
 * The caller's address, canonical.
 *
 * Starts at the socket and walks `X-Forwarded-For` from the right, one step for
 * each hop that is a trusted proxy: each proxy vouches for the entry that it
 * appended and for nothing to the left of it. The first address that is no trusted proxy is the
 * caller. A malformed entry, an entry with a port or the end of the list stops
 * the walk at the last address that somebody trusted vouched for.
 *
 * @param socketAddress - `socket.remoteAddress`; undefined (a socket already
 *   gone, a unix socket) gives {@link UNKNOWN_SOURCE}, which is in no {@link AddressSet}.
 * @param forwardedFor - The header as Node joins it, or undefined.
 */
export function clientAddress(
  socketAddress: string | undefined,
  forwardedFor: string | undefined,
  trusted: AddressSet,
): string {
  // The kernel adds the zone of a link-local address; it is not part of who calls.
  let address = canonicalAddress(socketAddress?.split('%', 1)[0] ?? '');
  if (address === null) return UNKNOWN_SOURCE;
  if (forwardedFor === undefined || !trusted.has(address)) return address;
  const hops = forwardedFor.split(',').slice(-MAX_HOPS);
  for (let at = hops.length - 1; at >= 0 && trusted.has(address); at--) {
    const hop = canonicalAddress((hops[at] as string).trim());
    if (hop === null) break;
    address = hop;
  }
  return address;
}
