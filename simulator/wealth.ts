/** Liabilities and investments: shapes with plausible, fixed figures. */
import { renderAccount } from './bank.ts';
import { type Call, type Endpoint, invalidField, type Json } from './call.ts';
import { PlaidFailure } from './errors.ts';
import { renderItem } from './items.ts';
import { derivedId } from './random.ts';
import type { Account, Item } from './state.ts';
import { dateRange } from './transactions.ts';
import { isoDate } from './world.ts';

const DAY = 86_400_000; // ms

const creditCard = (account: Account, now: number): Json => ({
  account_id: account.id,
  aprs: [
    {
      apr_percentage: 15.24,
      apr_type: 'purchase_apr',
      balance_subject_to_apr: account.current,
      interest_charge_amount: 5.2,
    },
  ],
  is_overdue: false,
  last_payment_amount: 168.25,
  last_payment_date: isoDate(now - 20 * DAY),
  last_statement_issue_date: isoDate(now - 10 * DAY),
  last_statement_balance: account.current,
  minimum_payment_amount: 20,
  next_payment_due_date: isoDate(now + 15 * DAY),
});

const studentLoan = (account: Account, now: number): Json => ({
  account_id: account.id,
  account_number: `4277075${account.mask}`,
  disbursement_dates: ['2020-08-28'],
  expected_payoff_date: '2036-07-28',
  guarantor: 'DEPT OF ED',
  interest_rate_percentage: 5.25,
  is_overdue: false,
  last_payment_amount: 138.05,
  last_payment_date: isoDate(now - 20 * DAY),
  last_statement_balance: account.current,
  last_statement_issue_date: isoDate(now - 10 * DAY),
  loan_name: 'Consolidation',
  loan_status: { end_date: '2036-07-28', type: 'repayment' },
  minimum_payment_amount: 25,
  next_payment_due_date: isoDate(now + 15 * DAY),
  origination_date: '2020-08-28',
  origination_principal_amount: 80_000,
  outstanding_interest_amount: 622.77,
  payment_reference_number: `4277075${account.mask}`,
  pslf_status: { estimated_eligibility_date: '2031-01-01', payments_made: 60, payments_remaining: 60 },
  repayment_plan: { description: 'Standard Repayment', type: 'standard' },
  sequence_number: '1',
  servicer_address: {
    city: 'San Matias',
    country: 'US',
    postal_code: '99415',
    region: 'CA',
    street: '123 Relaxation Road',
  },
  ytd_interest_paid: 280.55,
  ytd_principal_paid: 271.65,
});

const mortgage = (account: Account, now: number): Json => ({
  account_id: account.id,
  account_number: `312007${account.mask}`,
  current_late_fee: 0,
  escrow_balance: 3141.54,
  has_pmi: false,
  has_prepayment_penalty: false,
  interest_rate: { percentage: 3.99, type: 'fixed' },
  last_payment_amount: 3141.54,
  last_payment_date: isoDate(now - 20 * DAY),
  loan_term: '30 year',
  loan_type_description: 'conventional',
  maturity_date: '2049-07-31',
  next_monthly_payment: 3141.54,
  next_payment_due_date: isoDate(now + 15 * DAY),
  origination_date: '2019-08-01',
  origination_principal_amount: 425_000,
  past_due_amount: 0,
  property_address: {
    city: 'Malakoff',
    country: 'US',
    postal_code: '14236',
    region: 'NY',
    street: '2992 Cameron Road',
  },
  ytd_interest_paid: 12_300.4,
  ytd_principal_paid: 12_340.5,
});

const getLiabilities: Endpoint = (call) => {
  const item = call.itemWith('liabilities');
  const accounts = call.accounts(item);
  const of = (subtype: string, render: (account: Account, now: number) => Json): Json[] | null => {
    const found = accounts.filter((account) => account.subtype === subtype);
    return found.length === 0 ? null : found.map((account) => render(account, call.now));
  };
  const liabilities = {
    credit: of('credit card', creditCard),
    mortgage: of('mortgage', mortgage),
    student: of('student', studentLoan),
  };
  if (Object.values(liabilities).every((list) => list === null)) throw new PlaidFailure('NO_LIABILITY_ACCOUNTS');
  return { accounts: accounts.map((account) => renderAccount(account)), item: renderItem(item), liabilities };
};

interface Paper {
  readonly name: string;
  readonly ticker: string | null;
  readonly type: string;
  readonly price: number;
}

const PAPERS: readonly Paper[] = [
  { name: 'Meridian Total Market Index Fund', ticker: 'MTMIX', type: 'mutual fund', price: 42.15 },
  { name: 'Northwind Energy Inc.', ticker: 'NWEN', type: 'equity', price: 13.73 },
  { name: 'Global Ladder Bond ETF', ticker: 'GLBE', type: 'etf', price: 94.8 },
  { name: 'U S Dollar', ticker: 'CUR:USD', type: 'cash', price: 1 },
];

const paperId = (paper: Paper): string => derivedId(`security ${paper.ticker}`);

const renderPaper = (paper: Paper, now: number): Json => ({
  security_id: paperId(paper),
  isin: null,
  cusip: null,
  sedol: null,
  institution_security_id: null,
  institution_id: null,
  proxy_security_id: null,
  name: paper.name,
  ticker_symbol: paper.ticker,
  is_cash_equivalent: paper.type === 'cash',
  type: paper.type,
  subtype: null,
  close_price: paper.price,
  close_price_as_of: isoDate(now - DAY),
  update_datetime: null,
  iso_currency_code: 'USD',
  unofficial_currency_code: null,
  market_identifier_code: null,
  sector: null,
  industry: null,
  cfi_code: null,
  figi: null,
  option_contract: null,
  fixed_income: null,
});

/** The investment accounts asked for; an item without any answers NO_INVESTMENT_ACCOUNTS. */
function investmentAccounts(call: Call, item: Item): Account[] {
  const accounts = call.accounts(item).filter((account) => account.type === 'investment');
  if (accounts.length === 0) throw new PlaidFailure('NO_INVESTMENT_ACCOUNTS');
  return accounts;
}

function renderInvestmentAccount(account: Account): Json {
  const rendered = renderAccount(account);
  return { ...rendered, balances: { ...(rendered.balances as Json), margin_loan_amount: null } };
}

const getHoldings: Endpoint = (call) => {
  const item = call.itemWith('investments');
  const accounts = investmentAccounts(call, item);
  const share = 1 / PAPERS.length;
  return {
    accounts: accounts.map(renderInvestmentAccount),
    holdings: accounts.flatMap((account) =>
      PAPERS.map((paper) => {
        const value = Math.round(account.current * share * 100) / 100;
        return {
          account_id: account.id,
          security_id: paperId(paper),
          institution_price: paper.price,
          institution_price_as_of: isoDate(call.now - DAY),
          institution_price_datetime: null,
          institution_value: value,
          cost_basis: Math.round(value * 90) / 100,
          quantity: Math.round((value / paper.price) * 10_000) / 10_000,
          iso_currency_code: 'USD',
          unofficial_currency_code: null,
          vested_quantity: null,
          vested_value: null,
        };
      }),
    ),
    securities: PAPERS.map((paper) => renderPaper(paper, call.now)),
    item: renderItem(item),
    is_investments_fallback_item: false,
  };
};

const getInvestmentTransactions: Endpoint = (call) => {
  const [start, end] = dateRange(call);
  const options = call.body.child('options');
  const count = options.number('count', 100);
  const offset = options.number('offset', 0);
  if (count < 1 || count > 500) throw invalidField('count must be an integer between 1 and 500');
  const item = call.itemWith('investments');
  const accounts = investmentAccounts(call, item);
  const all = accounts
    .flatMap((account) =>
      Array.from({ length: 24 }, (_, index) => {
        const paper = PAPERS[index % 3] as Paper;
        const buys = index % 4 !== 3;
        const quantity = 1 + (index % 5);
        return {
          investment_transaction_id: derivedId(`investment ${account.id} ${index}`),
          cancel_transaction_id: null,
          account_id: account.id,
          security_id: paperId(paper),
          date: isoDate(item.createdAt - index * 15 * DAY),
          name: `${buys ? 'BUY' : 'SELL'} ${paper.name}`,
          quantity: buys ? quantity : -quantity,
          amount: Math.round((buys ? quantity : -quantity) * paper.price * 100) / 100,
          price: paper.price,
          fees: 0,
          type: buys ? 'buy' : 'sell',
          subtype: buys ? 'buy' : 'sell',
          iso_currency_code: 'USD',
          unofficial_currency_code: null,
        };
      }),
    )
    .filter((entry) => entry.date >= start && entry.date <= end);
  return {
    item: renderItem(item),
    accounts: accounts.map(renderInvestmentAccount),
    securities: PAPERS.map((paper) => renderPaper(paper, call.now)),
    investment_transactions: all.slice(offset, offset + count),
    total_investment_transactions: all.length,
    is_investments_fallback_item: false,
  };
};

export const wealthEndpoints: Readonly<Record<string, Endpoint>> = {
  '/liabilities/get': getLiabilities,
  '/investments/holdings/get': getHoldings,
  '/investments/transactions/get': getInvestmentTransactions,
};
