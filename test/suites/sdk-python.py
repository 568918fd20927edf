"""The official plaid-python SDK as a client of Strongroom. Prints one JSON object; exits 1 on a finding.

The application side of the story: it is given a URL, an application id and a key
(in the environment of this process), and it must never come to hold a token.
"""

import json
import os
import re
import sys

import plaid
from plaid.api import plaid_api
from plaid.model.accounts_get_request import AccountsGetRequest
from plaid.model.country_code import CountryCode
from plaid.model.item_access_token_invalidate_request import ItemAccessTokenInvalidateRequest
from plaid.model.item_public_token_exchange_request import ItemPublicTokenExchangeRequest
from plaid.model.item_remove_request import ItemRemoveRequest
from plaid.model.link_token_create_request import LinkTokenCreateRequest
from plaid.model.link_token_create_request_user import LinkTokenCreateRequestUser
from plaid.model.products import Products
from plaid.model.sandbox_public_token_create_request import SandboxPublicTokenCreateRequest
from plaid.model.transactions_sync_request import TransactionsSyncRequest

HANDLE = re.compile(r"^handle-sandbox-[a-z2-7]{36}$")

client = plaid_api.PlaidApi(
    plaid.ApiClient(
        plaid.Configuration(
            host=os.environ["STRONGROOM_URL"],
            api_key={"clientId": os.environ["APPLICATION_ID"], "secret": os.environ["APPLICATION_KEY"]},
        )
    )
)


def expect(fits, what):
    if not fits:
        print(f"not so: {what}", file=sys.stderr)
        sys.exit(1)


link = client.link_token_create(
    LinkTokenCreateRequest(
        client_name="Demo",
        language="en",
        country_codes=[CountryCode("US")],
        products=[Products("transactions")],
        user=LinkTokenCreateRequestUser(client_user_id="consumer-python"),
    )
)
expect(link["link_token"].startswith("link-sandbox-"), "the browser gets the real link token")

created = client.sandbox_public_token_create(
    SandboxPublicTokenCreateRequest(institution_id="ins_109508", initial_products=[Products("transactions")])
)
exchanged = client.item_public_token_exchange(ItemPublicTokenExchangeRequest(public_token=created["public_token"]))
handle = exchanged["access_token"]
expect(HANDLE.match(handle), "the exchange gives a handle")

accounts = client.accounts_get(AccountsGetRequest(access_token=handle))
expect(len(accounts["accounts"]) > 0, "there are accounts")
expect(accounts["item"]["item_id"] == exchanged["item_id"], "they are of the item")

cursor, transactions = "", 0
while True:
    page = client.transactions_sync(TransactionsSyncRequest(access_token=handle, cursor=cursor))
    transactions += len(page["added"])
    cursor = page["next_cursor"]
    if not page["has_more"]:
        break
expect(transactions > 100, f"{transactions} transactions")

rotated = client.item_access_token_invalidate(ItemAccessTokenInvalidateRequest(access_token=handle))
expect(rotated["new_access_token"] == handle, "the handle stays")
client.accounts_get(AccountsGetRequest(access_token=handle))

client.item_remove(ItemRemoveRequest(access_token=handle))
try:
    client.accounts_get(AccountsGetRequest(access_token=handle))
    expect(False, "a removed item does not answer")
except plaid.ApiException as error:
    body = json.loads(error.body)
    expect(body["error_code"] == "TOKEN_REMOVED", f"the SDK reads our errors: {body}")
    expect(body["error_type"] == "STRONGROOM_ERROR" and body["request_id"], "they have Plaid's fields")

print(json.dumps({"transactions": transactions, "handle": handle}))
