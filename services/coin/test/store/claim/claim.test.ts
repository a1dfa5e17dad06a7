import { randomUUID } from 'node:crypto';
import { type RawBuilder, sql } from 'kysely';
import type { CoinCategory } from '../../../../../gen/aqm/coin/v1/coin';
import { BRONZE, GOLD, mint, SILVER } from '../../../../../testkit/coins';
import { startService, type TestService } from '../../../../../testkit/service';
import type { User } from '../../../../../testkit/user';
import { acceptableCategories } from '../../../coin';
import type { Database } from '../../../database/pool';
import { readIncarnation } from '../../../fence/database-state';
import { type ClaimItem, type ClaimOptions, type ClaimRow, claim } from '../../../store/claim/claim-many';
import { claimOne } from '../../../store/claim/claim-one';
import { claimOneFast, toClaimRow } from '../../../store/claim/claim-one-fast';

let service: TestService;
let owner: User;
let incarnation: string;
const requesterId = randomUUID();
const known = randomUUID();
const expired = randomUUID();

beforeAll(async () => {
  service = await startService();
  owner = await service.user();
  incarnation = await readIncarnation(service.database.db);
  const requester = await service.user({ id: requesterId });
  for (const [category, count] of [
    [GOLD, 5],
    [SILVER, 2],
    [BRONZE, 1],
  ] as const)
    await owner.upload(mint(count, category));
  for (const requestId of [known, expired]) {
    await requester.fetch({ targetUserId: owner.id, coinCategory: GOLD, count: 2, requestId });
  }
  await sql`UPDATE coin_fetch SET fetch_time = fetch_time - interval '2 hours' WHERE request_id = ${expired}::uuid`.execute(
    service.database.db,
  );
});
afterAll(() => service.stop());

class Undo extends Error {}

/** What a statement answers and leaves in the tables; everything is rolled back. */
async function tryOut(statement: (db: Database) => Promise<ClaimRow[]>) {
  const { db } = service.database;
  let seen: { rows: ClaimRow[]; left: unknown; kept: unknown } | undefined;
  const undone = db.transaction().execute(async (transaction) => {
    const rows = await statement(transaction);
    const left = await sql`SELECT key_id FROM coin_stock ORDER BY key_id`.execute(transaction);
    const kept = await sql`SELECT request_id, coin_category, coin_count, allow_lower_categories, key_ids FROM coin_fetch
      ORDER BY request_id`.execute(transaction);
    seen = { rows, left: left.rows, kept: kept.rows };
    throw new Undo();
  });
  await expect(undone).rejects.toBeInstanceOf(Undo);
  if (!seen) throw new Error('The statement was not run.');
  return seen;
}

const both = {
  claimOneFast: (item: ClaimItem, options: ClaimOptions) => (db: Database) =>
    db.executeQuery(claimOneFast(item, options).compile()).then(({ rows }) => rows.map(toClaimRow)),
  claim: (item: ClaimItem, options: ClaimOptions) => (db: Database) =>
    (claim([item], options) as RawBuilder<ClaimRow>).execute(db).then(({ rows }) => rows),
  claimOne: (item: ClaimItem, options: ClaimOptions) => (db: Database) =>
    db.executeQuery(claimOne(item, options).compile()).then(({ rows }) => rows),
};

describe.each([
  ['', 'several'],
  [', where the tables are distributed', 'one'],
] as const)('the statement for one item answers and leaves what the statement for several does%s', (_, targets) => {
  const asked: [CoinCategory, number, boolean][] = [];
  for (const category of [GOLD, SILVER, BRONZE]) {
    for (const count of [1, 2, 5]) for (const fallback of [false, true]) asked.push([category, count, fallback]);
  }
  const cases = asked.flatMap((one) =>
    (['skip', 'wait'] as const).flatMap((held) => [false, true].map((acceptShort) => ({ one, held, acceptShort }))),
  );

  test.each([
    ['a new request', () => randomUUID()],
    ['a known request', () => known],
  ])('%s', async (_, requestId) => {
    for (const { one, held, acceptShort } of cases) {
      const [coinCategory, count, allowLowerCategories] = one;
      const categories = acceptableCategories(coinCategory, allowLowerCategories);
      const item = {
        requesterId,
        userId: owner.id,
        requestId: requestId(),
        coinCategory,
        count,
        allowLowerCategories,
        categories,
      };
      const options = { graceSeconds: 3600, held, acceptShort, incarnation, targets };
      const [several, single] = [await tryOut(both.claim(item, options)), await tryOut(both.claimOne(item, options))];
      expect(single).toEqual(several);
    }
  });

  test('the statement for whole answers gives the same where it gives one, and else leaves everything as it was', async () => {
    let answered = 0;
    for (const { one } of cases) {
      const [coinCategory, count, allowLowerCategories] = one;
      for (const requestId of [randomUUID(), known, expired]) {
        const item = { requesterId, userId: owner.id, requestId, coinCategory, count, allowLowerCategories };
        const options = { graceSeconds: 3600, held: 'skip', acceptShort: false, incarnation, targets } as const;
        const before = await tryOut(async () => []);
        const whole = await tryOut(both.claimOneFast({ ...item, categories: [coinCategory] }, options));
        if (whole.rows.length === 0) expect(whole).toEqual(before);
        else {
          answered += 1;
          expect(whole).toEqual(await tryOut(both.claimOne({ ...item, categories: [coinCategory] }, options)));
        }
        const fenced = await tryOut(
          both.claimOneFast({ ...item, categories: [coinCategory] }, { ...options, incarnation: 'another' }),
        );
        expect(fenced).toEqual(before);
      }
    }
    expect(answered).toBeGreaterThan(0);
    expect(answered).toBeLessThan(3 * cases.length);
  });

  test.each(['claim', 'claimOne'] as const)(
    '%s: under another incarnation it says so, and does nothing',
    async (name) => {
      const { db } = service.database;
      const before = await sql`SELECT key_id FROM coin_stock ORDER BY key_id`.execute(db);
      for (const { one, held, acceptShort } of cases) {
        const [coinCategory, count, allowLowerCategories] = one;
        const categories = acceptableCategories(coinCategory, allowLowerCategories);
        for (const requestId of [randomUUID(), known, expired]) {
          const item = {
            requesterId,
            userId: owner.id,
            requestId,
            coinCategory,
            count,
            allowLowerCategories,
            categories,
          };
          const options = { graceSeconds: 3600, held, acceptShort, incarnation: 'another', targets };
          const seen = await tryOut(both[name](item, options));
          expect(seen).toMatchObject({ rows: [{ kind: 'unverified', key_id: null }], left: before.rows });
        }
      }
    },
  );

  test.each(['claim', 'claimOne'] as const)('%s: the same id after the grace meets the old record', async (name) => {
    const item = {
      requesterId,
      userId: owner.id,
      requestId: expired,
      coinCategory: GOLD,
      count: 1,
      allowLowerCategories: false,
    };
    const options = { graceSeconds: 3600, held: 'skip', acceptShort: false, incarnation, targets } as const;
    const running = service.database.db
      .transaction()
      .execute((transaction) => both[name]({ ...item, categories: [GOLD] }, options)(transaction));
    await expect(running).rejects.toMatchObject({ code: '23505', constraint: expect.stringMatching(/^coin_fetch/) });
  });

  test.each(['claim', 'claimOne'] as const)(
    '%s: coins that others hold make it say so, and take nothing',
    async (name) => {
      const { db } = service.database;
      const item = {
        requesterId,
        userId: owner.id,
        requestId: randomUUID(),
        coinCategory: SILVER,
        count: 2,
        allowLowerCategories: false,
      };
      const options = { graceSeconds: 3600, held: 'skip', acceptShort: false, incarnation, targets } as const;
      await db.transaction().execute(async (holder) => {
        await sql`SELECT FROM coin_stock WHERE coin_category = ${SILVER} ORDER BY upload_order LIMIT 1 FOR UPDATE`.execute(
          holder,
        );
        const before = await sql`SELECT key_id FROM coin_stock ORDER BY key_id`.execute(db);
        const seen = await tryOut(both[name]({ ...item, categories: [SILVER] }, options));
        expect(seen).toMatchObject({ rows: [{ kind: 'contended', key_id: null }], left: before.rows });
        const short = await tryOut(both[name]({ ...item, categories: [SILVER] }, { ...options, acceptShort: true }));
        expect(short).toMatchObject({ rows: [{ kind: 'coin' }] });
      });
    },
  );
});
