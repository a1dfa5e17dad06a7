import { IS_FULL_RUN } from '../../../testkit/tier';
import { clockSuite } from '../../conformance/clock';
import { devicesSuite } from '../../conformance/devices';
import { forgettingSuite } from '../../conformance/forgetting';
import type { Harness } from '../../conformance/harness';
import { inventorySuite } from '../../conformance/inventory';
import { ownerSuite } from '../../conformance/owner';
import { racesSuite } from '../../conformance/races';
import { reopenSuite } from '../../conformance/reopen';
import { reservationSuite } from '../../conformance/reservations';
import { vaultSuite } from '../../conformance/vault';
import { PASSPHRASE, RAW_KEY, sqliteHarness } from './harness';

const ALL_SUITES = [
  vaultSuite,
  inventorySuite,
  devicesSuite,
  reservationSuite,
  forgettingSuite,
  reopenSuite,
  racesSuite,
  clockSuite,
  ownerSuite,
];

/** A passphrase differs from a raw key only while a file is opened, where it takes 256,000 rounds of PBKDF2. */
const PASSPHRASE_SUITES = IS_FULL_RUN ? ALL_SUITES : [reopenSuite];

const runs: readonly [name: string, harness: Harness, suites: typeof ALL_SUITES][] = [
  ['SQLite with a raw key', sqliteHarness(RAW_KEY), ALL_SUITES],
  ['SQLite with a passphrase', sqliteHarness(PASSPHRASE), PASSPHRASE_SUITES],
];

for (const [name, harness, suites] of runs) for (const suite of suites) suite(name, harness);
