import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { ROOT } from '../../../../testkit/root';
import { CODES, emptyValues, indexOf, REASONS } from '../../status/columns';
import { diagnose } from '../../status/diagnosis';
import { figuresOf } from '../../status/figures';
import type { Situation } from '../../status/finding';

const SECONDS = 15;

/** A sound service at which these values were counted, or are. */
function situation(values: Readonly<Record<string, number>> = {}, more: Partial<Situation> = {}): Situation {
  const sound = { calls: 100, 'code.OK': 100, databaseUp: 1, fenceUp: 0, poolUsed: 1, poolMax: 20, poolWaiting: 0 };
  const columns = emptyValues();
  for (const [name, value] of Object.entries({ ...sound, ...values })) {
    const index = indexOf(name);
    if (index === undefined) throw new Error(`there is no column ${name}`);
    columns[index] = value;
  }
  return {
    isReady: true,
    waitingFor: null,
    fenceReason: null,
    isStopping: false,
    certificateEnd: null,
    processes: 1,
    processesAway: 0,
    time: 1_800_000_000,
    figures: figuresOf(columns, SECONDS),
    ...more,
  };
}

const refused = (reason: string, code = 'UNAVAILABLE', calls = 7) => ({
  [`reason.${reason}`]: calls,
  [`code.${code}`]: calls,
});
const DAY = 86_400;

const CASES: [what: string, found: Situation, name: string, level: string, says: RegExp][] = [
  ['nothing wrong', situation(), 'well', 'well', /Every call of the last 15 s was answered/],
  ['no calls', situation({ calls: 0, 'code.OK': 0 }), 'well', 'well', /No call arrived/],
  ['cancelled calls', situation(refused('CANCELLED', 'CANCELLED')), 'well', 'well', /answered/],
  ['PostgreSQL away', situation({ databaseUp: 0 }), 'database-away', 'failure', /do not restart the service/],
  [
    'PostgreSQL away at the start',
    situation({ databaseUp: 0 }, { isReady: false, waitingFor: 'DATABASE_UNAVAILABLE' }),
    'database-away',
    'failure',
    /The start waits for it/,
  ],
  ['a migration at the start', situation({ databaseUp: 0 }, { isReady: false }), 'starting', 'warning', /prepares/],
  [
    'PostgreSQL back',
    situation(refused('DATABASE_UNAVAILABLE')),
    'database-away',
    'failure',
    /answers now, but 7 calls failed with DATABASE_UNAVAILABLE in the last 15 s/,
  ],
  [
    'fenced',
    situation({ fenceUp: 1 }, { fenceReason: 'WATERMARK_NOT_REACHED' }),
    'fenced',
    'failure',
    /aqm admin fence status.*Do not restart/,
  ],
  [
    'a full disk of the watermark',
    situation({ fenceUp: 1 }, { fenceReason: 'WATERMARK_UNUSABLE' }),
    'fenced',
    'failure',
    /Make room.*nothing is to be decided/,
  ],
  [
    'another database',
    situation({ fenceUp: 1 }, { fenceReason: 'OTHER_DATABASE' }),
    'fenced',
    'failure',
    /restart the service/,
  ],
  ['fenced a moment ago', situation(refused('FENCED')), 'fenced', 'failure', /down now, but 7 calls/],
  ['JWKS away', situation({ tokenKeysUp: 0 }), 'token-keys-away', 'warning', /Bring the issuer back/],
  [
    'JWKS away, with a new key',
    situation({ tokenKeysUp: 0, ...refused('TOKEN_KEYS_UNAVAILABLE') }),
    'token-keys-away',
    'failure',
    /\(7 calls in the last 15 s\)/,
  ],
  [
    'JWKS away at the start',
    situation({ databaseUp: 0 }, { isReady: false, waitingFor: 'TOKEN_KEYS_UNAVAILABLE' }),
    'token-keys-away',
    'failure',
    /cannot start before/,
  ],
  ['Redis away', situation(refused('LIMITS_UNAVAILABLE')), 'limits-away', 'failure', /Bring the Redis/],
  [
    'overloaded, event loop',
    situation({ ...refused('OVERLOADED'), eventLoop: 0.97 }),
    'overloaded',
    'failure',
    /add replicas/,
  ],
  [
    'overloaded, PostgreSQL',
    situation({ ...refused('OVERLOADED'), poolUsed: 20 }),
    'overloaded',
    'failure',
    /PostgreSQL is the bottleneck/,
  ],
  ['overloaded, few calls', situation(refused('OVERLOADED')), 'overloaded', 'failure', /AQM_MAX_CALLS/],
  [
    'overloaded, and a few found no connection',
    situation({
      ...refused('OVERLOADED', 'UNAVAILABLE', 700),
      'reason.DATABASE_UNAVAILABLE': 3,
      'code.UNAVAILABLE': 703,
    }),
    'overloaded',
    'failure',
    /700 calls/,
  ],
  ['a bug', situation(refused('INTERNAL', 'INTERNAL')), 'internal-errors', 'failure', /report it/],
  ['a dead worker', situation({}, { processes: 3, processesAway: 1 }), 'workers-away', 'warning', /1 of 4 worker/],
  [
    'slow calls',
    situation({ calls: 600, 'code.OK': 600, 'duration.9': 600 }),
    'slow',
    'warning',
    /longer than 995 ms; the goal is 500 ms/,
  ],
  [
    'missed deadlines',
    situation(refused('DEADLINE_EXCEEDED', 'DEADLINE_EXCEEDED')),
    'slow',
    'failure',
    /7 calls missed/,
  ],
  [
    'empty stocks',
    situation({ 'empty.GOLD': 0.9, 'empty.BRONZE': 0.4, 'fetches.empty': 5, 'fetches.whole': 5 }),
    'stock-empty',
    'warning',
    /: GOLD 90 %, BRONZE 40 %; 50 % of the fetches found nothing.*the service itself is sound/,
  ],
  ['a few devices that are off', situation({ 'empty.BRONZE': 0.1 }), 'well', 'well', /answered/],
  [
    'one category that runs out first',
    situation({ 'empty.GOLD': 0.9, 'empty.BRONZE': 0.1 }),
    'well',
    'well',
    /answered/,
  ],
  ['a full pool', situation({ poolUsed: 20, poolWaiting: 25 }), 'pool-exhausted', 'notice', /All 20 connections/],
  ['a full pool for a moment', situation({ poolUsed: 20, poolWaiting: 3 }), 'well', 'well', /answered/],
  ['no place', situation({ withoutPlace: 1 }), 'no-place', 'warning', /1 call found no place/],
  [
    'a certificate near its end',
    situation({}, { certificateEnd: 1_800_000_000 + 3.5 * DAY }),
    'certificate',
    'warning',
    /3 more days/,
  ],
  [
    'a certificate past its end',
    situation({}, { certificateEnd: 1_799_999_999 }),
    'certificate',
    'failure',
    /cannot connect/,
  ],
  ['a failed job', situation({ housekeepingFailed: 1 }), 'housekeeping', 'warning', /after five minutes/],
  ['lost lines', situation({ logLinesLost: 5 }), 'log-lost', 'warning', /disk is full/],
  ['stopping', situation({}, { isStopping: true }), 'stopping', 'warning', /refuses new ones/],
  [
    'a wrong request',
    situation(refused('INVALID_FIELD', 'INVALID_ARGUMENT', 1)),
    'other-failures',
    'notice',
    /^1 call in the last 15 s was refused because of the request or a rate limit \(INVALID_FIELD\)/,
  ],
  ['an item over a limit', situation({ limitsHit: 2 }), 'other-failures', 'notice', /^2 items in the last 15 s were/],
];

test.each(CASES)('%s', (_what, found, name, level, says) => {
  const diagnosis = diagnose(found);
  expect(diagnosis).toMatchObject({ name, level });
  expect(diagnosis.sentence).toMatch(says);
  expect(diagnosis.findings[0]).toMatchObject({ name });
});

test('never says that all is well while a call is refused', () => {
  const failing = CODES.filter((code) => code !== 'OK' && code !== 'CANCELLED');
  const reasons = REASONS.filter((reason) => reason !== 'CANCELLED');
  const counts = fc.oneof(
    fc
      .tuple(fc.constantFrom(...failing), fc.integer({ min: 1, max: 1e6 }))
      .map(([code, n]) => ({ [`code.${code}`]: n })),
    fc
      .tuple(fc.constantFrom(...reasons), fc.constantFrom(...failing), fc.integer({ min: 1, max: 1e6 }))
      .map(([reason, code, n]) => refused(reason, code, n)),
    fc.constantFrom({ limitsHit: 1 }, { 'fetches.failed': 1 }, { withoutPlace: 1 }),
  );
  const circumstances = fc.record({
    isReady: fc.boolean(),
    isStopping: fc.boolean(),
    waitingFor: fc.constantFrom(null, 'DATABASE_UNAVAILABLE', 'TOKEN_KEYS_UNAVAILABLE'),
  });
  fc.assert(
    fc.property(fc.array(counts, { minLength: 1, maxLength: 4 }), circumstances, (parts, more) => {
      const { level, title, sentence } = diagnose(situation(Object.assign({}, ...parts), more));
      expect(level).not.toBe('well');
      expect(title).not.toMatch(/well/i);
      expect(sentence).not.toMatch(/NaN|undefined|null|Infinity/);
    }),
    { numRuns: 500 },
  );
});

test('the most serious finding is first, and the others follow', () => {
  const found = diagnose(
    situation({
      ...refused('OVERLOADED'),
      ...refused('INVALID_FIELD', 'INVALID_ARGUMENT', 2),
      logLinesLost: 1,
      fenceUp: 1,
    }),
  );
  expect(found.findings.map(({ name }) => name)).toEqual(['fenced', 'overloaded', 'log-lost', 'other-failures']);
});

test('empty stocks are reported before calls that are a little slow', () => {
  const slow = { calls: 600, 'code.OK': 600, 'duration.9': 600 };
  const { findings } = diagnose(situation({ ...slow, 'empty.BRONZE': 0.9 }));
  expect(findings.map(({ name }) => name)).toEqual(['stock-empty', 'slow']);
});

test('every document that a finding names has the section and the row', () => {
  const places = new Set(CASES.flatMap(([, found]) => diagnose(found).findings.map(({ document }) => document)));
  for (const place of places) {
    if (place === null) continue;
    const [, path = '', anchor, row] = /^(\S+?)(?:#(\S+))?(?: \(row (\S+)\))?$/.exec(place) ?? [];
    expect([place, existsSync(join(ROOT, path))]).toEqual([place, true]);
    const text = readFileSync(join(ROOT, path), 'utf8');
    const anchors = [...text.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^a-z0-9 -]/g, '')
        .replaceAll(' ', '-'),
    );
    if (anchor !== undefined) expect(anchors).toContain(anchor);
    if (row !== undefined)
      expect([row, text.split('\n').some((line) => line.startsWith('|') && line.includes(row))]).toEqual([row, true]);
  }
});
