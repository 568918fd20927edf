import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Secret } from '../../src/base/secret.ts';
import { scramVerifier } from '../../src/store/scram.ts';

test('the verifier is the one of RFC 7677', () => {
  assert.equal(
    scramVerifier(new Secret('pencil'), Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64')),
    'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=',
  );
});

test('a password that would need preparation is refused', () => {
  for (const text of ['', 'pässword', 'a b', 'a\n']) assert.throws(() => scramVerifier(new Secret(text)), RangeError);
});
