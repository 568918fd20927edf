import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { AddressSet, canonicalAddress, clientAddress, parseCidr } from '../../src/access/source.ts';

const NOBODY = new AddressSet([]);
const PROXIES = new AddressSet(['10.0.0.0/8', '2001:db8::/32']);

test('without trusted proxies the address is the socket, whatever the header says', () => {
  assert.equal(clientAddress('203.0.113.9', '1.2.3.4', NOBODY), '203.0.113.9');
  assert.equal(clientAddress('::ffff:203.0.113.9', '1.2.3.4', NOBODY), '203.0.113.9');
  assert.equal(clientAddress('fe80::1%eth0', undefined, NOBODY), 'fe80::1');
  assert.equal(clientAddress(undefined, '1.2.3.4', NOBODY), 'unknown');
});

test('each trusted proxy vouches for the entry that it appended, and for no more', () => {
  // spoofed by the caller, seen by the outer proxy, seen by the inner proxy
  assert.equal(clientAddress('10.0.0.1', '1.2.3.4, 203.0.113.9, 10.0.0.2', PROXIES), '203.0.113.9');
  assert.equal(clientAddress('10.0.0.1', '203.0.113.9', PROXIES), '203.0.113.9');
  assert.equal(clientAddress('10.0.0.1', ' 2001:DB9::0001 ', PROXIES), '2001:db9::1');
  assert.equal(clientAddress('10.0.0.1', '203.0.113.9, 2001:db8::7', PROXIES), '203.0.113.9');
  assert.equal(clientAddress('::ffff:10.0.0.1', '::ffff:203.0.113.9', PROXIES), '203.0.113.9');
  assert.equal(clientAddress('203.0.113.9', '10.0.0.5', PROXIES), '203.0.113.9');
});

test('the walk ends where the chain ends or stops making sense', () => {
  assert.equal(clientAddress('10.0.0.1', undefined, PROXIES), '10.0.0.1');
  assert.equal(clientAddress('10.0.0.1', '10.0.0.3, 10.0.0.2', PROXIES), '10.0.0.3');
  for (const garbage of [
    '',
    'unknown',
    '_hidden',
    '203.0.113.9:443',
    '[2001:db9::1]',
    '1.2.3',
    '0x7f.1',
    '010.0.0.1',
    '1.2.3.4\t5',
    'fe80::1%eth0',
  ]) {
    assert.equal(clientAddress('10.0.0.1', `203.0.113.9, ${garbage}`, PROXIES), '10.0.0.1', garbage);
    assert.equal(clientAddress('10.0.0.1', `203.0.113.9, ${garbage}, 10.0.0.2`, PROXIES), '10.0.0.2', garbage);
  }
  const endless = Array.from({ length: 5_000 }, () => '10.0.0.2').join(',');
  assert.equal(clientAddress('10.0.0.1', `203.0.113.9,${endless}`, PROXIES), '10.0.0.2');
});

test('law: whatever stands left of the first untrusted address changes nothing', () => {
  fc.assert(
    fc.property(fc.string(), fc.ipV4(), (left, caller) => {
      const trusted = PROXIES.has(caller);
      const answer = clientAddress('10.0.0.1', `${left},${caller}`, PROXIES);
      assert.ok(trusted || answer === caller);
    }),
  );
});

test('one address has one spelling', () => {
  for (const [text, canonical] of [
    ['1.2.3.4', '1.2.3.4'],
    ['::FFFF:1.2.3.4', '1.2.3.4'],
    ['::ffff:102:304', '1.2.3.4'],
    ['0:0:0:0:0:ffff:1.2.3.4', '1.2.3.4'],
    ['2001:0db8:0000::0001', '2001:db8::1'],
    ['::1', '::1'],
    ['01.2.3.4', null],
    ['1.2.3', null],
    ['fe80::1%eth0', null],
    ['', null],
    ['localhost', null],
  ] as const) {
    assert.equal(canonicalAddress(text), canonical, text);
  }
});

test('a CIDR with bits beyond its prefix is refused, since it may mean one host or a whole network', () => {
  for (const good of [
    '10.0.0.0/8',
    '10.1.2.3',
    '10.1.2.3/32',
    '0.0.0.0/0',
    '::/0',
    '2001:db8::/32',
    '2001:db8::1',
    '::ffff:10.0.0.0/104',
    '10.128.0.0/9',
  ]) {
    assert.notEqual(parseCidr(good), null, good);
  }
  for (const bad of [
    '10.1.2.3/8',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/08',
    '10.0.0.0/',
    '/8',
    '2001:db8::1/64',
    '::/129',
    '10.0.0/8',
    'any',
    '*',
    '::ffff:10.0.0.0/8',
    '10.64.0.0/9',
    '10.0.0.0/8 ',
  ]) {
    assert.equal(parseCidr(bad), null, bad);
  }
  assert.deepEqual(parseCidr('::ffff:10.0.0.0/104'), { family: 'ipv4', address: '10.0.0.0', prefix: 8 });
});

test('law: a network holds exactly the addresses that share its prefix', () => {
  const bits = (address: string) => address.split('.').reduce((sum, byte) => sum * 256 + Number(byte), 0);
  fc.assert(
    fc.property(fc.ipV4(), fc.integer({ min: 0, max: 32 }), fc.ipV4(), fc.boolean(), (net, prefix, other, near) => {
      const size = 2 ** (32 - prefix);
      const start = Math.floor(bits(net) / size) * size;
      const dotted = (n: number) => [24, 16, 8, 0].map((shift) => Math.floor(n / 2 ** shift) % 256).join('.');
      const address = near ? dotted(start + (bits(other) % size)) : other;
      const inside = bits(address) >= start && bits(address) < start + size;
      const set = new AddressSet([`${dotted(start)}/${prefix}`]);
      assert.equal(set.has(address), inside);
      assert.equal(set.has(`::ffff:${address}`), inside);
    }),
  );
});
