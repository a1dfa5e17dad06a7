import { COLUMNS, columnOf, emptyValues, indexOf, type Values } from '../../status/columns';
import { figuresOf, historyOf } from '../../status/figures';
import { SAMPLES, SAMPLES_BYTES, Samples } from '../../status/samples';
import { decodeRecord, encodeRecord, type Facts, statusOf } from '../../status/status';

function valuesWith(given: Readonly<Record<string, number>>): Values {
  const values = emptyValues();
  for (const [name, value] of Object.entries(given)) values[indexOf(name) ?? -1] = value;
  return values;
}

/** A process whose counters a test sets, and its samples. */
function sampled() {
  const process = { counters: {} as Record<string, number>, ms: 1_800_000_000_000 };
  const samples = new Samples({
    read: async () => valuesWith(process.counters),
    eventLoop: () => 0.5,
    now: () => process.ms,
  });
  return { process, samples };
}

const FACTS: Facts = {
  replica: 'host',
  startTime: 1_800_000_000,
  versions: { service: '1.0.0', node: '24.0.0', postgres: '18.4' },
  isReady: true,
  waitingFor: null,
  isStopping: false,
  fenceReason: null,
  certificateEnd: null,
  tokenKeys: { from: 'file', lastFetch: null },
};

test('a sample has what was counted in its ten seconds, and the levels at its end', async () => {
  const { process, samples } = sampled();
  process.counters = { calls: 1000, callsInFlight: 9 };
  await samples.sample();
  process.counters = { calls: 1500, callsInFlight: 3 };
  process.ms += 10_000;
  await samples.sample();
  const [sample] = samples.since(0);
  expect(sample?.time).toBe(1_800_000_010);
  const { callsPerSecond, callsInFlight, eventLoop } = figuresOf(sample?.values ?? emptyValues(), sample?.seconds ?? 0);
  expect({ callsPerSecond, callsInFlight, eventLoop }).toEqual({
    callsPerSecond: 50,
    callsInFlight: 3,
    eventLoop: 0.5,
  });
});

test('the latest figures are those of the last sample and of the time since', async () => {
  const { process, samples } = sampled();
  await samples.sample();
  process.counters = { 'reason.OVERLOADED': 5 };
  process.ms += 10_000;
  await samples.sample();
  process.counters = { 'reason.OVERLOADED': 8 };
  process.ms += 4000;
  const { values, seconds } = await samples.latest();
  expect(figuresOf(values, seconds)).toMatchObject({ seconds: 14, reasons: { OVERLOADED: 8 } });
});

test('one hour is kept, in a few hundred kilobytes', async () => {
  const { process, samples } = sampled();
  for (let at = 0; at < SAMPLES + 100; at++) {
    await samples.sample();
    process.ms += 10_000;
  }
  const kept = samples.since(0);
  expect(kept).toHaveLength(SAMPLES);
  expect((kept.at(-1)?.time ?? 0) - (kept[0]?.time ?? 0)).toBe(3590);
  expect(kept.every(({ values }) => values.byteLength === COLUMNS.length * 8)).toBe(true);
  expect(SAMPLES_BYTES).toBeLessThan(300 * 1024);
});

test('percentiles are interpolated within their bucket', () => {
  // 50 calls below 1 ms, 49 between 1 and 2.5 ms, one between 100 and 250 ms.
  const values = valuesWith({ 'duration.0': 50, 'duration.1': 49, 'duration.7': 1 });
  const { p50Ms, p99Ms } = figuresOf(values, 10);
  expect(p50Ms).toBeCloseTo(1);
  expect(p99Ms).toBeCloseTo(2.5);
  expect(figuresOf(valuesWith({ 'duration.13': 1 }), 10).p99Ms).toBe(10_000);
  expect(figuresOf(emptyValues(), 10).p99Ms).toBeNull();
});

test('a time without samples is a gap in the charts', () => {
  const values = valuesWith({ calls: 100 });
  const samples = [10, 20, 50].map((time) => ({ time, seconds: 10, values }));
  const { time, callsPerSecond } = historyOf(samples);
  expect({ time, callsPerSecond }).toEqual({ time: [10, 20, 30, 50], callsPerSecond: [10, 10, null, 10] });
});

test('worker processes are added: counters, bad news, and what each of them reports alike', () => {
  const record = (given: Readonly<Record<string, number>>) => {
    const sample = { time: 20, seconds: 10, values: valuesWith(given) };
    return { facts: FACTS, latest: sample, samples: [sample] };
  };
  const shared = { 'stock.GOLD': 70, 'empty.GOLD': 0.25 };
  const one = record({ calls: 10, poolUsed: 2, poolMax: 20, fenceUp: 0, databaseUp: 1, tokenKeysUp: 1, ...shared });
  const other = record({ calls: 30, poolUsed: 3, poolMax: 20, fenceUp: 1, databaseUp: 0, tokenKeysUp: 1, ...shared });
  // The other process sends its record as JSON.
  const status = statusOf(one, [decodeRecord(encodeRecord(other))], 1);
  expect(status).toMatchObject({ processes: 2, processesAway: 1, diagnosis: { name: 'database-away' } });
  expect(status.now).toMatchObject({
    callsPerSecond: 4,
    pool: { used: 5, max: 40 },
    isFenced: true,
    isDatabaseUp: false,
    areTokenKeysUp: true,
    stock: { GOLD: 70 },
    empty: { GOLD: 0.25, BRONZE: null },
  });
  expect(status.history).toMatchObject({ time: [20], callsPerSecond: [4] });
});

test('a record keeps what is unknown apart from zero', () => {
  const sample = { time: 20, seconds: 10, values: valuesWith({ databaseUp: 0, 'stock.GOLD': 0, calls: 3 }) };
  const { latest } = decodeRecord(encodeRecord({ facts: FACTS, latest: sample, samples: [] }));
  expect(latest).toEqual(sample);
  expect(columnOf(latest.values, 'stock.SILVER')).toBeNaN();
});
