import { type Assumptions, type Costs, capacityOf, daysInStock, daysSpent } from '../capacity/model';

/** Round figures, so that the results can be checked in the head. */
const PEOPLE: Assumptions = {
  stock: 20,
  mix: [0, 0, 100],
  fetches: 2,
  peak: 5,
  uploadBatch: 10,
  busy: 0.5,
  shardBytes: 1e12,
  shardCores: 10,
  commitsPerSync: 2,
  pagesPerFetch: 1,
  pagesPerUpload: 10,
  readsPerFetch: 3,
};
const COSTS: Costs = {
  coinBytes: [4000, 1000, 500],
  spentBytes: 100,
  recordBytes: 500,
  fetchWal: 1000,
  uploadWal: [5000, 2000, 1000],
  fetchCpu: { service: 100, postgres: 50 },
  singleFetchCpu: { service: 300, postgres: 200 },
  uploadCpu: { service: 0, postgres: 0 },
  wireBytes: [4000, 1500, 500],
};

test('a coin stays in stock until it is fetched or past handing out, and is remembered for the rest of 30 days', () => {
  expect([daysInStock(PEOPLE), daysSpent(PEOPLE)]).toEqual([10, 20]);
  const careful = { ...PEOPLE, fetches: 0.5 };
  expect([daysInStock(careful), daysSpent(careful)]).toEqual([22, 8]);
});

test('the capacity for 864,000 users of whom each is fetched from twice a day', () => {
  const size = capacityOf(864_000, PEOPLE, COSTS);
  expect(size).toMatchObject({
    stockBytes: 864_000 * 20 * 500,
    // 20 days of them, and an hour of records and key bytes.
    spentBytes: 1_728_000 * 20 * 100 + 72_000 * 1000,
    fetchesPerSecond: 20,
    peakFetchesPerSecond: 100,
    peakUploadedPerSecond: 100,
    walPerDay: 1_728_000 * 2000,
    maxWalPerDay: 1_728_000 * (2000 + 2 * 8192),
    shards: 1,
    peakBitsPerSecond: 200 * 500 * 8,
  });
  expect(size.serviceCores).toBeCloseTo(0.02);
  // 110 commits, two to a sync; 200 pages written; 300 read.
  expect(size.peakIops).toBeCloseTo(55 + 200 + 300);
});

test('with more than one shard every fetch is a statement of its own', () => {
  const size = capacityOf(864_000_000, PEOPLE, COSTS);
  // 12.168 TB of coins and ids; 100,000 fetches a second at 200 µs on cores that are half busy.
  expect(size.bytes).toBeCloseTo(864_000_000 * 20 * 500 + 1_728_000_000 * 2000 + 72_000_000 * 1000);
  expect(size.postgresCores).toBeCloseTo(40);
  expect(size.shards).toBe(13);
});
