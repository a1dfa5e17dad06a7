import { randomUUID } from 'node:crypto';
import { type CompiledQuery, sql } from 'kysely';
import { BRONZE, GOLD, ids, mint, SILVER } from '../../../../../testkit/coins';
import { startService, type TestService } from '../../../../../testkit/service';
import type { User } from '../../../../../testkit/user';
import { acceptableCategories, UNNAMED_DEVICE } from '../../../coin';
import { readIncarnation } from '../../../fence/database-state';
import type { ClaimRow } from '../../../store/claim/answer';
import type { ClaimItem } from '../../../store/claim/claim-item';
import { claimManyFast } from '../../../store/claim/claim-many-fast';
import { type ClaimOneOptions, claimOne } from '../../../store/claim/claim-one';
import { claimOneFast } from '../../../store/claim/claim-one-fast';

let service: TestService;
let owner: User;
let incarnation: string;
const requesterId = randomUUID();
const PHONE = randomUUID();
/** The ids of the coins of another device of the owner. */
const ofPhone: string[] = [];
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
  for (const category of [GOLD, SILVER, BRONZE]) {
    const coins = mint(2, category);
    await owner.upload(coins, '', PHONE);
    ofPhone.push(...ids(coins));
  }
  for (const requestId of [known, expired]) {
    await requester.fetch({ targetUserId: owner.id, coinCategory: GOLD, count: 2, requestId });
  }
  await sql`UPDATE coin_fetch SET fetch_time = fetch_time - interval '2 hours' WHERE request_id = ${expired}::uuid`.execute(
    service.database.db,
  );
});
afterAll(() => service.stop());

class Undo extends Error {}

/** Returns the rows of a statement and the tables as it leaves them, and rolls everything back. */
async function tryOut(query?: { compile(): CompiledQuery<ClaimRow> }) {
  const { db } = service.database;
  let seen: { rows: ClaimRow[]; left: unknown; kept: unknown } | undefined;
  const undone = db.transaction().execute(async (transaction) => {
    const rows = query ? (await transaction.executeQuery(query.compile())).rows.map(withoutConstants) : [];
    const left = await sql`SELECT key_id FROM coin_stock ORDER BY key_id`.execute(transaction);
    const kept =
      await sql`SELECT request_id, device_id, coin_category, coin_count, allow_lower_categories, key_ids FROM coin_fetch
      ORDER BY request_id`.execute(transaction);
    seen = { rows, left: left.rows, kept: kept.rows };
    throw new Undo();
  });
  await expect(undone).rejects.toBeInstanceOf(Undo);
  if (!seen) throw new Error('The statement was not run.');
  return seen;
}

/** Removes the columns that the fast claims leave out because they are the same in every row. */
function withoutConstants({ item: _item, kind, fetch_time, ...coin }: ClaimRow): ClaimRow {
  return { ...coin, ...(kind && kind !== 'coin' && { kind }), ...(fetch_time && { fetch_time }) };
}

function itemOf(fields: Partial<ClaimItem> & Pick<ClaimItem, 'coinCategory'>): ClaimItem {
  const item = {
    requesterId,
    userId: owner.id,
    deviceId: UNNAMED_DEVICE,
    requestId: randomUUID(),
    isRepeatable: true,
    count: 1,
    allowLowerCategories: false,
    ...fields,
  };
  return { categories: acceptableCategories(item.coinCategory, item.allowLowerCategories), ...item };
}

describe.each([
  ['', 'several'],
  [' on distributed tables', 'one'],
] as const)('the claim statements%s', (_, targets) => {
  const optionsOf = (options: Partial<ClaimOneOptions> = {}): ClaimOneOptions => ({
    graceSeconds: 3600,
    held: 'skip',
    acceptShort: false,
    incarnation,
    targets,
    ...options,
  });
  const fetches = [GOLD, SILVER, BRONZE].flatMap((coinCategory) =>
    [1, 2, 5].flatMap((count) =>
      [false, true].map((allowLowerCategories) => ({ coinCategory, count, allowLowerCategories })),
    ),
  );

  test('the fast claims answer what the full claim does, or return no row and change nothing', async () => {
    const untouched = await tryOut();
    let answered = 0;
    for (const fetch of fetches) {
      for (const requestId of [randomUUID(), known, expired]) {
        const item = itemOf({ ...fetch, requestId, categories: [fetch.coinCategory] });
        const fast = await tryOut(claimOneFast(item, optionsOf()));
        expect(await tryOut(claimManyFast([item], optionsOf()))).toEqual(fast);
        if (fast.rows.length === 0) expect(fast).toEqual(untouched);
        else {
          answered += 1;
          expect(fast).toEqual(await tryOut(claimOne(item, optionsOf())));
        }
      }
    }
    expect(answered).toBeGreaterThan(0);
    expect(answered).toBeLessThan(3 * fetches.length);
  });

  test('a batch with fallback answers what the full claim does, or nothing', async () => {
    const untouched = await tryOut();
    const tooMany = itemOf({ coinCategory: GOLD, count: 5, allowLowerCategories: true });
    expect(await tryOut(claimManyFast([tooMany], optionsOf()))).toEqual(untouched);
    // One GOLD coin is left, so a batch that must name one category serves no more than that.
    for (const count of targets === 'one' ? [1] : [1, 2, 3, 4]) {
      const item = itemOf({ coinCategory: GOLD, count, allowLowerCategories: true });
      const batched = await tryOut(claimManyFast([item], optionsOf()));
      expect(batched.rows).toHaveLength(count);
      expect(batched).toEqual(await tryOut(claimOne(item, optionsOf())));
    }
  });

  test('the items of a batch divide the coins of a list in their order, without sharing any', async () => {
    const items = [1, 1, 2].map((count) => itemOf({ coinCategory: GOLD, count, allowLowerCategories: true }));
    const { rows } = await tryOut(claimManyFast(items, optionsOf()));
    const expected = targets === 'one' ? [GOLD] : [GOLD, SILVER, SILVER, BRONZE];
    expect(rows.map(({ coin_category }) => coin_category)).toEqual(expected);
    expect(new Set(rows.map(({ key_id }) => key_id)).size).toBe(expected.length);
  });

  test('every claim takes the coins of its device alone', async () => {
    const untouched = await tryOut();
    for (const fetch of fetches.filter(({ count }) => count < 5)) {
      const [mine, others] = [itemOf({ ...fetch, deviceId: PHONE }), itemOf({ ...fetch, deviceId: randomUUID() })];
      const fallback = fetch.allowLowerCategories && fetch.coinCategory !== BRONZE;
      const full = await tryOut(claimOne(mine, optionsOf()));
      expect(full.rows).toHaveLength(fetch.count);
      for (const { key_id } of full.rows) expect(ofPhone).toContain(key_id);
      expect(await tryOut(claimOne(mine, optionsOf({ held: 'wait' })))).toEqual(full);
      // A batch for one user serves one category.
      if (!fallback || targets === 'several') expect(await tryOut(claimManyFast([mine], optionsOf()))).toEqual(full);
      if (!fallback) expect(await tryOut(claimOneFast(mine, optionsOf()))).toEqual(full);
      for (const held of ['skip', 'wait'] as const) {
        expect(await tryOut(claimOne(others, optionsOf({ held })))).toEqual(untouched);
      }
      expect(await tryOut(claimOneFast(others, optionsOf()))).toEqual(untouched);
      expect(await tryOut(claimManyFast([others], optionsOf()))).toEqual(untouched);
    }
  });

  test('the items of several devices of a user share no scan', async () => {
    const devices = [UNNAMED_DEVICE, PHONE, UNNAMED_DEVICE, PHONE];
    const items = devices.map((deviceId) => itemOf({ coinCategory: SILVER, deviceId }));
    const { rows } = await tryOut(claimManyFast(items, optionsOf()));
    expect(rows.map(({ key_id }) => ofPhone.includes(key_id ?? ''))).toEqual([false, true, false, true]);
    expect(new Set(rows.map(({ key_id }) => key_id)).size).toBe(4);
  });

  test('under another incarnation the full claim reports it, and no claim changes anything', async () => {
    const untouched = await tryOut();
    for (const fetch of fetches) {
      for (const requestId of [randomUUID(), known, expired]) {
        const item = itemOf({ ...fetch, requestId });
        const options = optionsOf({ incarnation: 'another' });
        for (const held of ['skip', 'wait'] as const) {
          for (const acceptShort of [false, true]) {
            const full = await tryOut(claimOne(item, { ...options, held, acceptShort }));
            expect(full).toMatchObject({ ...untouched, rows: [{ kind: 'unverified', key_id: null }] });
          }
        }
        expect(await tryOut(claimOneFast(item, options))).toEqual(untouched);
        expect(await tryOut(claimManyFast([item], options))).toEqual(untouched);
      }
    }
  });

  test('the full claim of an id whose grace has passed violates the primary key of the old record', async () => {
    const item = itemOf({ coinCategory: GOLD, requestId: expired });
    const running = service.database.db
      .transaction()
      .execute((transaction) => transaction.executeQuery(claimOne(item, optionsOf()).compile()));
    await expect(running).rejects.toMatchObject({ code: '23505', constraint: expect.stringMatching(/^coin_fetch/) });
  });

  test('the full claim reports coins that another transaction holds, and takes none', async () => {
    const { db } = service.database;
    const item = itemOf({ coinCategory: SILVER, count: 2 });
    await db.transaction().execute(async (holder) => {
      await sql`SELECT FROM coin_stock WHERE coin_category = ${SILVER} AND device_id = ${UNNAMED_DEVICE} ORDER BY upload_order LIMIT 1 FOR UPDATE`.execute(
        holder,
      );
      const untouched = await tryOut();
      const contended = await tryOut(claimOne(item, optionsOf()));
      expect(contended).toMatchObject({ ...untouched, rows: [{ kind: 'contended', key_id: null }] });
      const short = await tryOut(claimOne(item, optionsOf({ acceptShort: true })));
      expect(short.rows).toEqual([expect.objectContaining({ coin_category: SILVER })]);
    });
  });
});
