import { uuidBytes } from '../coin-signature';
import { readDisk } from '../person';
import { type StoryContext, stockForContact, stockInVault, stockOnServer } from '../story-context';
import { addTiers, countTiers, TIERS, type TierCounts, tierCounts } from '../tiers';

/** The number of coins of Bob's phone by place at the end. */
export interface FinalStock {
  readonly minted: TierCounts;
  readonly burned: TierCounts;
  readonly vault: TierCounts;
  readonly server: TierCounts;
  readonly inventory: TierCounts;
}

export function compareStocks({
  journal,
  backend,
  alice,
  bob,
  laptop,
  carol,
  minted,
  deliveries,
}: StoryContext): Promise<FinalStock> {
  return journal.step(
    'final-stock',
    'Every coin is accounted for',
    "Three independent stores are compared: the server, the inventory on Alice's device, and the vault on Bob's phone.",
    async () => {
      const stock: FinalStock = {
        minted: countTiers([...minted.values()].filter(({ device }) => device === bob)),
        burned: countTiers(deliveries.filter(({ recipient }) => recipient === bob)),
        vault: await stockInVault(bob),
        server: await stockOnServer(bob),
        inventory: await stockForContact(alice, bob),
      };
      journal.table(TIERS, [
        row('minted on the phone', stock.minted),
        row('used once and burned', stock.burned),
        row('left in its vault', stock.vault),
        row('left on the server', stock.server),
        row('left with Alice', stock.inventory),
      ]);
      journal.check(
        'the vault holds exactly 2 BRONZE, the server 1 and Alice 1',
        [stock.vault, stock.server, stock.inventory],
        [tierCounts(0, 0, 2), tierCounts(0, 0, 1), tierCounts(0, 0, 1)],
      );
      journal.check('minted = burned + left in the vault', stock.minted, addTiers(stock.burned, stock.vault));
      journal.check(
        'vault = server + Alice: whatever can still be sent can be opened',
        stock.vault,
        addTiers(stock.server, stock.inventory),
      );
      const used = new Set(deliveries.map(({ keyId }) => keyId));
      journal.check(
        `${deliveries.length} messages used ${deliveries.length} different coins, all of them Bob's`,
        [used.size, [...used].filter((keyId) => minted.has(keyId)).length],
        [deliveries.length, deliveries.length],
      );
      if (backend === 'redis') {
        journal.note('Redis stores key ids and counts in plain text; contacts and private halves are encrypted.');
        return stock;
      }
      const people = [alice, bob, laptop, carol];
      const ids = [...minted.keys(), ...people.map(({ userId, deviceId }) => deviceId ?? userId), bob.userId];
      const disks = await Promise.all(people.map(readDisk));
      journal.check(
        `${Buffer.concat(disks).length} bytes on the disks of the four devices contain no readable id and no priority`,
        disks.map((disk) => countReadable(disk, ids)),
        people.map(() => 0),
      );
      return stock;
    },
  );
}

function row(name: string, counts: TierCounts): [string, ...number[]] {
  return [name, ...TIERS.map((tier) => counts[tier])];
}

/** Counts the ids (as text or bytes) and the words of an unencrypted file that are readable on the disk. */
function countReadable(disk: Buffer, ids: readonly string[]): number {
  const texts = [...ids, 'SQLite format 3', 'BESTIE'].map((text) => Buffer.from(text));
  return [...texts, ...ids.map(uuidBytes)].filter((bytes) => disk.includes(bytes)).length;
}
