import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OTHER_SOURCES, Refusals, TokenBuckets } from '../../src/access/rate.ts';
import type { Clock } from '../../src/base/clock.ts';

function handClock(): Clock & { pass(ms: number): void } {
  let at = 0;
  return {
    now: () => at,
    monotonic: () => at,
    pass: (ms) => {
      at += ms;
    },
  };
}

const LIMIT = { perSecond: 10, burst: 5 };

test('an application gets its burst, then its rate', () => {
  const clock = handClock();
  const buckets = new TokenBuckets(clock);
  const taken = (tries: number) => Array.from({ length: tries }, () => buckets.take('a', LIMIT)).filter(Boolean).length;
  assert.equal(taken(20), 5);
  clock.pass(100);
  assert.equal(taken(20), 1);
  clock.pass(10_000);
  assert.equal(taken(20), 5); // never more than the burst
  assert.equal(buckets.take('b', LIMIT), true); // nobody spends from another
});

test('a lowered limit holds at the next call', () => {
  const clock = handClock();
  const buckets = new TokenBuckets(clock);
  assert.equal(buckets.take('a', { perSecond: 100, burst: 100 }), true);
  const strict = { perSecond: 1, burst: 1 };
  assert.equal(buckets.take('a', strict), true);
  assert.equal(buckets.take('a', strict), false);
});

test('buckets stay bounded, and the busy one is not forgotten for idle ones', () => {
  const clock = handClock();
  const buckets = new TokenBuckets(clock, 3);
  for (let i = 0; i < 5; i++) buckets.take('busy', LIMIT);
  for (let i = 0; i < 100; i++) {
    buckets.take(`idle ${i}`, LIMIT);
    assert.equal(buckets.take('busy', LIMIT), false);
  }
  assert.equal(buckets.size, 3);
});

test('10,000 guesses from one source are limited, told of at once and then once as a count', () => {
  const clock = handClock();
  const refusals = new Refusals(clock);
  let looked = 0;
  let told = 0;
  for (let i = 0; i < 10_000; i++) {
    const name = `guess ${i}`;
    if (!refusals.throttled('203.0.113.9', name)) looked++;
    if (refusals.refused('203.0.113.9', name)) told++;
  }
  assert.equal(looked, 300);
  assert.equal(told, 1);
  assert.deepEqual(refusals.drain(), []);
  clock.pass(60_000);
  assert.equal(refusals.throttled('203.0.113.9', 'guess'), false);
  assert.deepEqual(refusals.drain(), [{ source: '203.0.113.9', count: 9_999 }]);
  assert.equal(refusals.size, 0);
});

test('one misconfigured application does not shut out its neighbours behind the same address', () => {
  const refusals = new Refusals(handClock());
  for (let i = 0; i < 50; i++) refusals.refused('203.0.113.9', 'broken');
  assert.equal(refusals.throttled('203.0.113.9', 'broken'), true);
  assert.equal(refusals.throttled('203.0.113.9', 'neighbour'), false);
  assert.equal(refusals.throttled('203.0.113.8', 'broken'), false);
});

test('every refusal is told of, in the window it fell into or in the next count', () => {
  const clock = handClock();
  const refusals = new Refusals(clock, { capacity: 4, windowMs: 1_000 });
  let told = 0;
  let refused = 0;
  for (let round = 0; round < 50; round++) {
    for (let i = 0; i < 7; i++) {
      for (let n = 0; n <= i; n++) {
        refused++;
        if (refusals.refused(`203.0.113.${(round + i) % 9}`, 'x')) told++;
      }
    }
    assert.ok(refusals.size <= 4);
    clock.pass(300);
    if (round % 5 === 0) for (const { count } of refusals.drain()) told += count;
  }
  const last = refusals.drain(true);
  for (const { count } of last) told += count;
  assert.equal(told, refused);
  assert.deepEqual(refusals.drain(true), []);
});

test('windows that make room are told of as a sum', () => {
  const refusals = new Refusals(handClock(), { capacity: 1 });
  for (const source of ['192.0.2.1', '192.0.2.2']) for (let i = 0; i < 3; i++) refusals.refused(source, 'x');
  assert.deepEqual(refusals.drain(), [{ source: OTHER_SOURCES, count: 2 }]);
});

test('IPv6 sources count by their /64', () => {
  const refusals = new Refusals(handClock(), { perSource: 3 });
  for (const host of ['1', '2', 'ffff:1']) refusals.refused(`2001:db8:1:2::${host}`, host);
  assert.equal(refusals.throttled('2001:db8:1:2:9:9:9:9', 'y'), true);
  assert.equal(refusals.throttled('2001:db8:1:3::1', 'y'), false);
  assert.equal(refusals.throttled('::1', 'y'), false);
});
