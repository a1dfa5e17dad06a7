import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DeviceStorage, type DeviceStorageConfig, openDeviceStorage } from '../../device';
import { type Contents, fill, newCoin, newKey, renewKey } from '../../testkit/device-contents';
import { RedisServer } from '../../testkit/redis-server';
import { stop } from '../device/stopwatch';
import { type Ratio, ratioOf } from '../harness/bootstrap';
import { runCommand } from '../harness/command';
import { columns, percentile, positive, progress, verdict } from '../harness/numbers';

const USAGE = `Usage: npm run bench -- device-versions --other FOLDER [--rounds 5] [--runs 400] [--coins 1000]
                                        [--out docs/performance]

  Times storing, fetching and burning a private half, and storing and selecting a coin, on SQLite and on Redis.
  Compares the device library of this checkout with that of another checkout, which must be built
  (FOLDER has dist/), call by call in one process. Ratios are those of "other" to "this": above 1,
  this version is faster. Each has the interval of 95% that a bootstrap over blocks of calls gives.
  For a control, let FOLDER be a copy of this checkout: the ratios are 1 but for noise. A ratio below
  0.95 is UNDECIDED while its interval reaches 0.95; then take more rounds. Exit code 1: an interval
  of a p50 or p99 is below 0.95, or this version takes more than 5 ms for a p99.`;

const NOTHING: Contents = { keyIds: [], contacts: [] };
const VERSIONS = ['this', 'other'] as const;
const SHARES = { p50: 0.5, p99: 0.99 } as const;
type Version = (typeof VERSIONS)[number];
type Open = (config: DeviceStorageConfig) => Promise<DeviceStorage>;

/** A storage of one version, and what it holds. */
interface Side {
  readonly storage: DeviceStorage;
  readonly contents: Contents;
  /** Ids of private halves that were stored in this round and are not burned yet. */
  readonly stored: string[];
}

/** Prepares one call, untimed, and returns it. */
const OPERATIONS: Readonly<Record<string, (side: Side) => Promise<() => Promise<unknown>>>> = {
  'vault.storeKey': async ({ storage, stored }) => {
    const key = newKey();
    stored.push(key.keyId);
    return () => storage.vault.storeKey(key);
  },
  'vault.fetchKey': async ({ storage, contents, stored }) => {
    const id = await renewKey(storage, contents);
    stored.push(id);
    return () => storage.vault.fetchKey(id);
  },
  'vault.burnKey': async ({ storage, stored }) => {
    const id = stored.pop();
    if (id === undefined) throw new Error('there is no key left to burn');
    return () => storage.vault.burnKey(id);
  },
  'inventory.selectCoin': async ({ storage, contents }) => {
    const contactId = contents.contacts[Math.floor(Math.random() * contents.contacts.length)] as string;
    // Replaces the coin that an earlier run took, so that there is always a coin to select.
    await storage.inventory.storeKey(newCoin(contactId, 'GOLD'));
    return () => storage.inventory.selectCoin(contactId, 'GOLD');
  },
  'inventory.storeKey': async ({ storage, contents }) => {
    const contactId = contents.contacts[Math.floor(Math.random() * contents.contacts.length)] as string;
    // There is room for the coin only if one was taken.
    await storage.inventory.selectCoin(contactId, 'GOLD');
    const coin = newCoin(contactId, 'GOLD');
    return () => storage.inventory.storeKey(coin);
  },
};

/** The milliseconds of one operation's calls in one round. */
type Durations = Record<Version, number[]>;

runCommand(USAGE, { other: '', rounds: '5', runs: '400', coins: '1000' }, async (options) => {
  if (options.other === '') throw new Error('--other must name a folder with a built checkout');
  const [rounds, runs, coins] = [
    positive('rounds', options.rounds),
    positive('runs', options.runs),
    positive('coins', options.coins),
  ];
  const library = (await import(join(options.other, 'dist/device/index.js'))) as { openDeviceStorage: Open };
  const open: Record<Version, Open> = { this: openDeviceStorage, other: library.openDeviceStorage };
  const folder = mkdtempSync(join(tmpdir(), 'aqm-bench-'));
  const server = await RedisServer.start();
  const configs: Record<string, (version: Version) => DeviceStorageConfig> = {
    sqlite: (version) => ({ backend: 'sqlite', path: join(folder, `${version}.db`), key: randomBytes(32) }),
    redis: (version) => ({ backend: 'redis', url: server.url, namespace: version }),
  };
  const rows: (readonly (string | number)[])[] = [];
  const verdicts: string[] = [];
  const results: Record<string, unknown> = {};
  try {
    for (const [backend, configOf] of Object.entries(configs)) {
      const side = async (version: Version): Promise<Side> => {
        const storage = await open[version](configOf(version));
        return { storage, contents: await fill(storage, coins, NOTHING), stored: [] };
      };
      const sides = { this: await side('this'), other: await side('other') };
      const perOperation = new Map(
        Object.keys(OPERATIONS).map((name): [string, Durations] => [name, { this: [], other: [] }]),
      );
      // The first round is a warm-up.
      for (let round = -1; round < rounds; round += 1) {
        progress(`${backend}: round ${round + 1} of ${rounds}`);
        for (const [name, prepare] of Object.entries(OPERATIONS)) {
          const durations = await timeRound(sides, prepare, name === 'vault.burnKey' ? 2 * runs : runs);
          if (round >= 0) for (const version of VERSIONS) perOperation.get(name)?.[version].push(...durations[version]);
        }
      }
      for (const version of VERSIONS) await sides[version].storage.close();
      for (const [name, durations] of perOperation) {
        for (const [label, share] of Object.entries(SHARES)) {
          const what = `${backend}: ${name} ${label}`;
          const { this: ours, other: theirs, ...ratio } = compare(durations, share);
          const cells = [ours, theirs, ratio.ratio, ratio.low, ratio.high];
          results[what] = { this: ours, other: theirs, ...ratio };
          rows.push([what, ...cells.map((value) => value.toFixed(3))]);
          verdicts.push(judge(what, ratio));
          if (label === 'p99') {
            verdicts.push(verdict(ours <= 5, `${what}: at most 5 ms: ${ours.toFixed(2)} ms`));
          }
        }
      }
    }
  } finally {
    await server.destroy();
    rmSync(folder, { recursive: true });
  }
  const head = ['', 'this, ms', 'other, ms', 'ratio', 'from', 'to'];
  return {
    name: 'device-versions',
    table: columns([head, ...rows], 11),
    json: { settings: { rounds, runs, coins }, results },
    verdicts,
  };
});

/**
 * Times calls on both storages in turn. Which one is first alternates: each version then follows the other as often as
 * itself, and finds the caches of the processor in the same state.
 */
async function timeRound(
  sides: Record<Version, Side>,
  prepare: (side: Side) => Promise<() => Promise<unknown>>,
  runs: number,
): Promise<Durations> {
  const durations: Durations = { this: [], other: [] };
  for (let run = 0; run < runs; run += 1) {
    for (const version of run % 2 === 0 ? VERSIONS : [...VERSIONS].reverse()) {
      const call = await prepare(sides[version]);
      durations[version].push(await stop(call));
    }
  }
  return durations;
}

/** Compares one percentile over all rounds. One round has too few calls above its p99. */
function compare({ this: ours, other }: Durations, share: number) {
  return {
    this: percentile(Float64Array.from(ours).sort(), share),
    other: percentile(Float64Array.from(other).sort(), share),
    ...ratioOf(ours, other, share),
  };
}

function judge(what: string, { ratio, low, high }: Ratio): string {
  const sentence = `${what}: at least 0.95 of the speed: ${ratio.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})`;
  return ratio < 0.95 && high >= 0.95 ? `UNDECIDED ${sentence}` : verdict(ratio >= 0.95, sentence);
}
