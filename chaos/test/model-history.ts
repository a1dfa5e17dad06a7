import type { Call, FetchCall, FinalTables, History, UploadCall } from '../service/history';
import { BRONZE, GOLD, SILVER } from './history-kit';

/** One step of a correct sequential service. Its call begins before it and ends after it. */
export type Step = { readonly before: number; readonly after: number; readonly answered: boolean } & (
  | { readonly kind: 'upload'; readonly category: number; readonly coins: number }
  | { readonly kind: 'fetch'; readonly category: number; readonly count: number; readonly allowLower: boolean }
  | { readonly kind: 'repeat'; readonly which: number }
  | { readonly kind: 'upload again'; readonly which: number }
);

/** The time from one step to the next, in milliseconds. */
export const PACE = 10;
const CATEGORIES = [GOLD, SILVER, BRONZE];

type Coin = { keyId: string; category: number };

/** Simulates the answers of a correct service and its final tables, for the coins of one owner and one requester. */
export function tell(steps: readonly Step[]): { history: History; final: FinalTables } {
  const calls: Call[] = [];
  const queues = new Map<number, Coin[]>(CATEGORIES.map((category) => [category, []]));
  const uploaded: Coin[] = [];
  const spent = new Set<string>();
  const fetches: { call: FetchCall; answer: Coin[] }[] = [];

  steps.forEach((step, index) => {
    const at = index * PACE;
    const facts = { call: index, client: 'model', server: 0, start: at - step.before, end: at + step.after };
    const failure = step.answered ? {} : { failure: { code: 'UNAVAILABLE', reason: '' } };
    if (step.kind === 'upload') {
      const coins = Array.from({ length: step.coins }, (_, place) => ({
        keyId: `c${index}-${place}`,
        category: step.category,
      }));
      queues.get(step.category)?.push(...coins);
      uploaded.push(...coins);
      upload(
        coins,
        coins.map(() => 'INSERTED'),
      );
    } else if (step.kind === 'upload again') {
      const coin = uploaded[step.which % Math.max(uploaded.length, 1)];
      if (coin) upload([coin], [spent.has(coin.keyId) ? 'SPENT' : 'ALREADY_PRESENT']);
    } else if (step.kind === 'fetch') {
      const { category, count, allowLower } = step;
      const answer: Coin[] = [];
      for (const from of allowLower ? CATEGORIES.filter((one) => one >= category) : [category]) {
        answer.push(...(queues.get(from)?.splice(0, count - answer.length) ?? []));
      }
      for (const coin of answer) spent.add(coin.keyId);
      fetch({ targetUserId: 'bob', category, count, allowLower, requestId: `r${index}` }, answer);
    } else {
      const known = fetches[step.which % Math.max(fetches.length, 1)];
      const item = known?.call.items[0];
      // An empty answer is not remembered: its repeat would be a new fetch.
      if (known && item && known.answer.length > 0) fetch(item, known.answer);
    }

    function upload(coins: Coin[], outcomes: string[]): void {
      const call: UploadCall = { ...facts, ...failure, kind: 'upload', userId: 'bob', coins };
      calls.push(step.answered ? { ...call, outcomes } : call);
    }
    function fetch({ coins: _, ...request }: FetchCall['items'][number], answer: Coin[]): void {
      const item = step.answered ? { ...request, coins: answer } : request;
      const call: FetchCall = { ...facts, ...failure, kind: 'fetch', requesterId: 'alice', items: [item] };
      calls.push(call);
      fetches.push({ call, answer });
    }
  });

  const coins = uploaded.map(({ keyId }) => ({ userId: 'bob', keyId, inStock: !spent.has(keyId) }));
  const rows = new Map(
    fetches.filter(({ answer }) => answer.length > 0).map((known) => [known.call.items[0]?.requestId, known]),
  );
  const final: FinalTables = {
    readAt: steps.length * PACE + 1000,
    coins,
    fetches: [...rows].map(([requestId = '', { answer }]) => ({
      userId: 'bob',
      requesterId: 'alice',
      requestId,
      keyIds: answer.map((coin) => coin.keyId),
    })),
  };
  const outage = { kind: 'model', start: -1000, end: steps.length * PACE + 1000 };
  return { history: { calls, faults: [outage] }, final };
}
