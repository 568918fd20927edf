// A small application that uses the official Plaid SDK through Strongroom.
//
//   npm start                                    in another terminal, in the repository
//   node examples/node/link.mjs .strongroom/dev.json
//
// The only difference from an application that talks to Plaid directly is where
// the SDK is pointed, and whose credentials it shows.
import { readFileSync } from 'node:fs';
import { Configuration, PlaidApi } from 'plaid';

const { gateway } = JSON.parse(readFileSync(process.argv[2] ?? '.strongroom/dev.json', 'utf8'));
const plaid = new PlaidApi(
  new Configuration({
    basePath: gateway.url,
    baseOptions: { headers: { 'PLAID-CLIENT-ID': gateway.applicationId, 'PLAID-SECRET': gateway.applicationKey } },
  }),
);

// In an application, Link in the browser gives the public token.
const { public_token } = (
  await plaid.sandboxPublicTokenCreate({
    institution_id: 'ins_109508',
    initial_products: ['transactions'],
  })
).data;
const { access_token: handle } = (await plaid.itemPublicTokenExchange({ public_token })).data;
console.log('the application holds', handle);

let cursor = '';
let count = 0;
for (let more = true; more; ) {
  const { data } = await plaid.transactionsSync({ access_token: handle, ...(cursor === '' ? {} : { cursor }) });
  count += data.added.length;
  cursor = data.next_cursor;
  more = data.has_more;
}
console.log('it read', count, 'transactions');

await plaid.itemRemove({ access_token: handle });
console.log('and removed the item');

// One thing to know of the SDK: its errors carry the whole request, credentials included
// (plaid-node issue 565). Log `error.response?.data`, never `error`. Here that would show an
// application key and a handle, and no token.
