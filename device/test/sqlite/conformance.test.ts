import { inventorySuite } from '../../conformance/inventory';
import { racesSuite } from '../../conformance/races';
import { reopenSuite } from '../../conformance/reopen';
import { vaultSuite } from '../../conformance/vault';
import { PASSPHRASE, RAW_KEY, sqliteHarness } from './harness';

const harnesses = [
  ['SQLite with a raw key', sqliteHarness(RAW_KEY)],
  ['SQLite with a passphrase', sqliteHarness(PASSPHRASE)],
] as const;

for (const [name, harness] of harnesses) {
  vaultSuite(name, harness);
  inventorySuite(name, harness);
  reopenSuite(name, harness);
  racesSuite(name, harness);
}
