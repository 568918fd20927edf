/**
 * What the SDK's types cannot say about Plaid's endpoints, one row each. The
 * generator refuses an endpoint that has no row, and a row that has no endpoint.
 *
 * Columns: path (POST unless a method stands before it), class, effect, reach.
 *
 * - class: who should be allowed to call it (see EndpointClass).
 * - effect: `read` changes nothing and may be repeated; `change`; `remove` ends
 *   or deletes something for good; `rotate` replaces a token.
 * - reach: `own`, the call names a handle or subject, and all it names must be
 *   the application's; `open`, nobody else's data can be reached; `client`,
 *   reaches across the whole Plaid client.
 *
 * Then, as needed, with `field` a path in the body (`[]` for elements):
 *
 *     >kind=field   the answer names a new subject, which the caller now owns
 *     @kind=field   the request names one, which the caller owns once the call succeeded
 *     =kind:field   the request's field is a subject of this kind
 *     -field        the request's field is no subject here
 *     $kind=field   a token field of a request that the SDK does not type
 *     once          reads, and yet must not be repeated by itself
 */
export const KNOWLEDGE = `
/accounts/balance/get                          item      read    own
/accounts/get                                  item      read    own
/application/get                               directory read    open    -application_id
/asset_report/audit_copy/create                report    change  own
/asset_report/audit_copy/get                   report    read    own
/asset_report/audit_copy/pdf/get               report    read    own
/asset_report/audit_copy/remove                report    remove  own
/asset_report/create                           report    change  own     >asset_report=asset_report_id -options.user.client_user_id
/asset_report/filter                           report    change  own     >asset_report=asset_report_id
/asset_report/get                              report    read    own
/asset_report/pdf/get                          report    read    own
/asset_report/refresh                          report    change  own     >asset_report=asset_report_id -options.user.client_user_id
/asset_report/remove                           report    remove  own
/auth/get                                      item      read    own
/auth/verify                                   item      change  open    >item=item_id
/bank_transfer/balance/get                     money     read    client
/bank_transfer/cancel                          money     change  own
/bank_transfer/create                          money     change  own     >bank_transfer=bank_transfer.id
/bank_transfer/event/list                      money     read    own
/bank_transfer/event/sync                      money     read    client
/bank_transfer/get                             money     read    own
/bank_transfer/list                            money     read    client
/bank_transfer/migrate_account                 money     change  open
/bank_transfer/sweep/get                       money     read    client
/bank_transfer/sweep/list                      money     read    client
/beacon/account_risk/v1/evaluate               user      change  own     -client_user_id
/beacon/duplicate/get                          user      read    client
/beacon/report/create                          user      change  own     >beacon_report=id
/beacon/report/get                             user      read    own
/beacon/report/list                            user      read    own     >beacon_report=beacon_reports[].id
/beacon/report_syndication/get                 user      read    own
/beacon/report_syndication/list                user      read    own     >beacon_syndication=beacon_report_syndications[].id
/beacon/user/account_insights/get              user      read    own
/beacon/user/create                            user      change  open    >beacon_user=id @client_user=client_user_id
/beacon/user/get                               user      read    own
/beacon/user/history/list                      user      read    own
/beacon/user/review                            user      change  own
/beacon/user/update                            user      change  own
/beta/credit/v1/bank_employment/get            user      read    own
/beta/ewa_report/v1/get                        item      read    own
/beta/issues/v1/get                            item      read    own
/beta/issues/v1/list                           item      read    client
/beta/issues/v1/match                          item      read    client  once
/beta/issues/v1/subscribe                      item      change  own
/beta/issues/v1/unsubscribe                    item      change  own
/beta/partner/customer/v1/create               admin     change  open    >end_customer=end_customer.client_id
/beta/partner/customer/v1/enable               admin     change  own     =end_customer:end_customer_client_id
/beta/partner/customer/v1/get                  admin     read    own
/beta/partner/customer/v1/update               admin     change  own     =end_customer:end_customer_client_id
/beta/transactions/rules/v1/create             user      change  own     =client_user:client_user_id
/beta/transactions/rules/v1/list               user      read    own     =client_user:client_user_id
/beta/transactions/rules/v1/remove             user      remove  own     =client_user:client_user_id
/beta/transactions/user_insights/v1/get        user      read    own     =client_user:client_user_id
/beta/transactions/v1/enhance                  user      change  open    -transactions[].id
/beta/webhook_events/list                      admin     read    own
/business_verification/create                  user      change  open    >business_verification=id @client_user=client_user_id
/business_verification/get                     user      read    own
/cashflow_report/get                           item      read    own
/cashflow_report/insights/get                  item      read    own
/cashflow_report/refresh                       item      change  own
/cashflow_report/transactions/get              item      read    own
/categories/get                                directory read    open
/consent/events/get                            item      read    own
/consumer_report/pdf/get                       user      read    own
/cra/check_report/base_report/get              user      read    own
/cra/check_report/cashflow_insights/get        user      read    own
/cra/check_report/create                       user      change  own
/cra/check_report/income_insights/get          user      read    own
/cra/check_report/lend_score/get               user      read    own
/cra/check_report/network_insights/get         user      read    own
/cra/check_report/partner_insights/get         user      read    own
/cra/check_report/pdf/get                      user      read    own
/cra/check_report/verification/get             user      read    own
/cra/check_report/verification/pdf/get         user      read    own
/cra/credit_profile/report/get                 user      read    own
/cra/loans/applications/register               user      change  own     -applications[].application_id
/cra/loans/register                            user      change  own     @loan=loans[].loan_id -loans[].application.application_id
/cra/loans/unregister                          user      remove  own     =loan:loans[].loan_id
/cra/loans/update                              user      change  own     =loan:loans[].loan_id
/cra/monitoring_insights/get                   user      read    own
/cra/monitoring_insights/subscribe             user      change  own     >subscription=subscription_id
/cra/monitoring_insights/unsubscribe           user      change  own
/cra/partner_insights/get                      user      read    own
/cra/report/get                                user      read    own
/cra/servicing/subscription/create             user      change  own     >subscription=subscription_id
/cra/servicing/subscription/delete             user      remove  own
/cra/servicing/subscription/get                user      read    own
/cra/servicing/subscription/list               user      read    own     >subscription=subscriptions[].subscription_id
/cra/servicing/subscription/update             user      change  own
/credit/asset_report/freddie_mac/get           report    read    own     $audit_copy=audit_copy_token
/credit/audit_copy_token/create                report    change  own
/credit/audit_copy_token/remove                report    remove  own
/credit/audit_copy_token/update                report    change  own
/credit/bank_income/get                        user      read    own
/credit/bank_income/pdf/get                    user      read    own
/credit/bank_income/refresh                    user      change  own
/credit/bank_income/webhook/update             user      change  own
/credit/bank_statements/uploads/get            user      read    own
/credit/employment/get                         user      read    own
/credit/freddie_mac/reports/get                report    read    own
/credit/payroll_income/get                     user      read    own
/credit/payroll_income/parsing_config/update   user      change  own     $user=user_token =user:user_id =item:item_id
/credit/payroll_income/precheck                user      change  own
/credit/payroll_income/refresh                 user      change  own
/credit/payroll_income/risk_signals/get        user      read    own
/credit/relay/create                           report    change  own
/credit/relay/get                              report    read    own
/credit/relay/pdf/get                          report    read    own
/credit/relay/refresh                          report    change  own     >asset_report=asset_report_id
/credit/relay/remove                           report    remove  own
/credit/sessions/get                           user      read    own     >link_session=sessions[].link_session_id >item=sessions[].results.item_add_results[].item_id
/dashboard_user/get                            admin     read    client
/dashboard_user/list                           admin     read    client
/employers/search                              directory read    open
/employment/verification/get                   item      read    own
GET /fdx/consents                              admin     read    client
GET /fdx/consents/{consentId}                  admin     read    client
GET /fdx/consents/{consentId}/revocation       admin     read    client
PUT /fdx/consents/{consentId}/revocation       admin     remove  client
/fdx/notifications                             admin     change  client  -notificationPayload.id
GET /fdx/recipient/{recipientId}               admin     read    client
GET /fdx/recipients                            admin     read    client
/identity/documents/uploads/get                item      read    own
/identity/get                                  item      read    own
/identity/match                                item      change  own
/identity/match/list                           item      read    client
/identity/refresh                              item      change  own
/identity_verification/autofill/create         user      change  own
/identity_verification/create                  user      change  open    >identity_verification=id >user=user_id @client_user=client_user_id -user.client_user_id
/identity_verification/get                     user      read    own     >watchlist_screening=watchlist_screening_id >beacon_user=beacon_user_id
/identity_verification/list                    user      read    own     =client_user:client_user_id
/identity_verification/retry                   user      change  own     =client_user:client_user_id >identity_verification=id
/income/verification/create                    user      change  open    >income_verification=income_verification_id
/income/verification/documents/download        user      read    own
/income/verification/paystubs/get              user      read    own
/income/verification/precheck                  user      change  open    >income_precheck=precheck_id
/income/verification/taxforms/get              user      read    own
/institutions/get                              directory read    open
/institutions/get_by_id                        directory read    open
/institutions/search                           directory read    open
/investments/auth/get                          item      read    own
/investments/holdings/get                      item      read    own
/investments/refresh                           item      change  own
/investments/transactions/get                  item      read    own
/issues/get                                    item      read    own
/issues/search                                 item      read    own     >issue=issues[].issue_id
/issues/subscribe                              item      change  own
/item/access_token/invalidate                  item      rotate  own
/item/activity/list                            item      read    own
/item/application/list                         item      read    own
/item/application/scopes/update                item      change  own     -application_id
/item/application/unlink                       item      remove  own     -application_id
/item/get                                      item      read    own
/item/import                                   item      change  open    -user_auth.user_id
/item/products/terminate                       item      remove  own
/item/public_token/create                      item      change  own
/item/public_token/exchange                    item      change  open    >item=item_id
/item/remove                                   item      remove  own
/item/webhook/update                           item      change  own
/liabilities/get                               item      read    own
/link/oauth/correlation_id/exchange            link      change  open
/link/token/create                             link      change  open    >link_token=link_token >user=user_id @client_user=user.client_user_id
/link/token/get                                link      read    own     >link_session=link_sessions[].link_session_id >item=link_sessions[].results.cra_item_add_results[].item_id
/link_delivery/create                          link      change  own     >link_delivery=link_delivery_session_id
/link_delivery/get                             link      read    own     >item=item_ids[] once
/network/status/get                            link      read    open    once
/oauth/introspect                              user      read    own
/oauth/revoke                                  user      remove  own
/oauth/token                                   user      change  own
/partner/customer/create                       admin     change  open    >end_customer=end_customer.client_id
/partner/customer/enable                       admin     change  own
/partner/customer/get                          admin     read    own
/partner/customer/oauth_institutions/get       admin     read    own
/partner/customer/remove                       admin     remove  own
/payment_initiation/consent/create             money     change  own     >payment_consent=consent_id
/payment_initiation/consent/get                money     read    own
/payment_initiation/consent/payment/execute    money     change  own     >payment=payment_id
/payment_initiation/consent/revoke             money     remove  own
/payment_initiation/payment/create             money     change  own     >payment=payment_id
/payment_initiation/payment/get                money     read    own
/payment_initiation/payment/list               money     read    own
/payment_initiation/payment/reverse            money     change  own
/payment_initiation/payment/token/create       money     change  own
/payment_initiation/recipient/create           money     change  open    >payment_recipient=recipient_id
/payment_initiation/recipient/get              money     read    own
/payment_initiation/recipient/list             money     read    client
/payment_profile/create                        money     change  open
/payment_profile/get                           money     read    own
/payment_profile/remove                        money     remove  own
/processor/account/get                         item      read    own
/processor/apex/processor_token/create         item      change  own
/processor/auth/get                            item      read    own
/processor/balance/get                         item      read    own
/processor/bank_transfer/create                money     change  own     >bank_transfer=bank_transfer.id
/processor/identity/get                        item      read    own
/processor/identity/match                      item      change  own
/processor/investments/auth/get                item      read    own
/processor/investments/holdings/get            item      read    own
/processor/investments/transactions/get        item      read    own
/processor/liabilities/get                     item      read    own
/processor/signal/decision/report              item      change  own     -client_transaction_id
/processor/signal/evaluate                     item      change  own     -client_transaction_id -client_user_id
/processor/signal/prepare                      item      change  own
/processor/signal/return/report                item      change  own     -client_transaction_id
/processor/stripe/bank_account_token/create    item      change  own
/processor/token/create                        item      change  own
/processor/token/permissions/get               item      read    own
/processor/token/permissions/set               item      change  own
/processor/token/webhook/update                item      change  own
/processor/transactions/get                    item      read    own
/processor/transactions/recurring/get          item      read    own
/processor/transactions/refresh                item      change  own
/processor/transactions/sync                   item      read    own
/profile/network_status/get                    link      read    open    once
/protect/cash_advance/decision/create          user      change  own     =client_user:user.client_user_id
/protect/cash_advance/repayment/create         user      change  own     =client_user:user.client_user_id
/protect/compute                               user      change  own     =client_user:user.client_user_id
/protect/event/get                             user      read    own
/protect/event/send                            user      change  open    >protect_event=event_id
/protect/report/create                         user      change  own
/protect/user/insights/get                     user      read    own     =client_user:client_user_id
/sandbox/bank_income/fire_webhook              sandbox   change  own
/sandbox/bank_transfer/fire_webhook            sandbox   change  open
/sandbox/bank_transfer/simulate                sandbox   change  own
/sandbox/cra/cashflow_updates/update           sandbox   change  own
/sandbox/cra/servicing/simulate                sandbox   change  own
/sandbox/fdx/consent/seed                      sandbox   change  client  -application_id -consent_id
/sandbox/income/fire_webhook                   sandbox   change  own
/sandbox/item/application/seed                 sandbox   change  own     -application_id
/sandbox/item/fire_webhook                     sandbox   change  own
/sandbox/item/reset_login                      sandbox   change  own
/sandbox/item/set_verification_status          sandbox   change  own
/sandbox/oauth/select_accounts                 sandbox   change  open
/sandbox/payment/simulate                      sandbox   change  own
/sandbox/payment_profile/reset_login           sandbox   change  own
/sandbox/processor_token/create                sandbox   change  open
/sandbox/public_token/create                   sandbox   change  open
/sandbox/transactions/create                   sandbox   change  own
/sandbox/transfer/fire_webhook                 sandbox   change  open
/sandbox/transfer/ledger/deposit/simulate      sandbox   change  client
/sandbox/transfer/ledger/simulate_available    sandbox   change  client
/sandbox/transfer/ledger/withdraw/simulate     sandbox   change  client
/sandbox/transfer/refund/simulate              sandbox   change  own
/sandbox/transfer/repayment/simulate           sandbox   change  client
/sandbox/transfer/simulate                     sandbox   change  own
/sandbox/transfer/sweep/simulate               sandbox   change  client
/sandbox/transfer/test_clock/advance           sandbox   change  own
/sandbox/transfer/test_clock/create            sandbox   change  open    >test_clock=test_clock.test_clock_id
/sandbox/transfer/test_clock/get               sandbox   read    own
/sandbox/transfer/test_clock/list              sandbox   read    client
/sandbox/user/fire_webhook                     sandbox   change  own
/sandbox/user/reset_login                      sandbox   change  own
/session/token/create                          link      change  open    >link_token=link.link_token >user=link.user_id @client_user=user.client_user_id
/signal/decision/report                        item      change  own     =signal_transaction:client_transaction_id
/signal/evaluate                               item      change  own     @signal_transaction=client_transaction_id -client_user_id
/signal/prepare                                item      change  own
/signal/return/report                          item      change  own     =signal_transaction:client_transaction_id
/signal/schedule                               item      change  own     @signal_transaction=client_transaction_id
/statements/download                           item      read    own
/statements/list                               item      read    own
/statements/refresh                            item      change  own
/transactions/enrich                           user      change  open    @client_user=transactions[].client_user_id -transactions[].id
/transactions/get                              item      read    own
/transactions/recurring/get                    item      read    own
/transactions/refresh                          item      change  own
/transactions/sync                             item      read    own
/transfer/authorization/cancel                 money     change  own
/transfer/authorization/create                 money     change  own     >transfer_authorization=authorization.id
/transfer/balance/get                          money     read    own
/transfer/cancel                               money     change  own
/transfer/capabilities/get                     money     read    own
/transfer/configuration/get                    money     read    own
/transfer/create                               money     change  own     >transfer=transfer.id
/transfer/diligence/document/upload            admin     change  own
/transfer/diligence/submit                     admin     change  own
/transfer/event/list                           money     read    own
/transfer/event/sync                           money     read    client
/transfer/get                                  money     read    own     >transfer=transfer.id
/transfer/intent/create                        money     change  open    >transfer_intent=transfer_intent.id
/transfer/intent/get                           money     read    own     >transfer=transfer_intent.transfer_id
/transfer/ledger/deposit                       money     change  client
/transfer/ledger/distribute                    money     change  client
/transfer/ledger/event/list                    money     read    client
/transfer/ledger/get                           money     read    client
/transfer/ledger/withdraw                      money     change  client
/transfer/list                                 money     read    own
/transfer/metrics/get                          money     read    own
/transfer/migrate_account                      money     change  open
/transfer/originator/create                    admin     change  open    >originator=originator_client_id
/transfer/originator/funding_account/create    admin     change  own
/transfer/originator/funding_account/update    admin     change  own
/transfer/originator/get                       admin     read    own
/transfer/originator/list                      admin     read    client
/transfer/platform/originator/create           admin     change  own
/transfer/platform/person/create               admin     change  own
/transfer/platform/requirement/submit          admin     change  own
/transfer/questionnaire/create                 admin     change  own
/transfer/recurring/cancel                     money     change  own
/transfer/recurring/create                     money     change  own     >recurring_transfer=recurring_transfer.recurring_transfer_id >transfer=recurring_transfer.transfer_ids[]
/transfer/recurring/get                        money     read    own     >transfer=recurring_transfer.transfer_ids[]
/transfer/recurring/list                       money     read    client
/transfer/refund/cancel                        money     change  own
/transfer/refund/create                        money     change  own     >transfer_refund=refund.id
/transfer/refund/get                           money     read    own
/transfer/repayment/list                       money     read    client
/transfer/repayment/return/list                money     read    client
/transfer/return/recover                       money     change  own
/transfer/sweep/get                            money     read    client
/transfer/sweep/list                           money     read    own
/user/create                                   user      change  open    >user=user_id @client_user=client_user_id
/user/financial_data/refresh                   user      change  own     >item=results[].item_id
/user/get                                      user      read    own
/user/identity/remove                          user      remove  own
/user/items/associate                          user      change  own
/user/items/get                                user      read    own     >item=items[].item_id
/user/items/remove                             user      remove  own
/user/products/terminate                       user      remove  own
/user/remove                                   user      remove  own
/user/third_party_token/create                 user      change  own
/user/third_party_token/remove                 user      remove  own
/user/transactions/refresh                     user      change  own     >item=results[].item_id
/user/update                                   user      change  own
/user_account/session/event/send               link      change  own
/user_account/session/get                      link      read    open    >item=items[].item_id once
/wallet/create                                 money     change  open    >wallet=wallet_id >payment_recipient=recipient_id
/wallet/get                                    money     read    own
/wallet/list                                   money     read    client
/wallet/transaction/execute                    money     change  own     >wallet_transaction=transaction_id
/wallet/transaction/get                        money     read    own     =wallet_transaction:transaction_id
/wallet/transaction/list                       money     read    own     >wallet_transaction=transactions[].transaction_id
/watchlist_screening/entity/create             user      change  open    >entity_screening=id @client_user=client_user_id
/watchlist_screening/entity/get                user      read    own
/watchlist_screening/entity/history/list       user      read    own
/watchlist_screening/entity/hit/list           user      read    own
/watchlist_screening/entity/list               user      read    own     =client_user:client_user_id
/watchlist_screening/entity/program/get        admin     read    client
/watchlist_screening/entity/program/list       admin     read    client
/watchlist_screening/entity/review/create      user      change  own
/watchlist_screening/entity/review/list        user      read    own
/watchlist_screening/entity/update             user      change  own     @client_user=client_user_id
/watchlist_screening/individual/create         user      change  open    >watchlist_screening=id @client_user=client_user_id
/watchlist_screening/individual/get            user      read    own
/watchlist_screening/individual/history/list   user      read    own
/watchlist_screening/individual/hit/list       user      read    own
/watchlist_screening/individual/list           user      read    own     =client_user:client_user_id
/watchlist_screening/individual/program/get    admin     read    client
/watchlist_screening/individual/program/list   admin     read    client
/watchlist_screening/individual/review/create  user      change  own
/watchlist_screening/individual/review/list    user      read    own
/watchlist_screening/individual/update         user      change  own     @client_user=client_user_id
/webhook_verification_key/get                  directory read    open
`;
