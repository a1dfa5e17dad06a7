import { type CoinName, publishCoins, topUp } from '../../device';
import { specOf } from '../algorithms';
import { type FreshCoin, mintCoin, publicHalfOf } from '../coin-minting';
import { verifyCoin } from '../coin-signature';
import type { Person } from '../person';
import { type StoryContext, stockForContact, stockInVault, stockOnServer } from '../story-context';
import { countTiers, describeNonzeroTiers, describeTiers, TIERS, type TierCounts, tierCounts } from '../tiers';

const MINTED = tierCounts(5, 6, 5);

export function mintAndPublish(context: StoryContext): Promise<void> {
  const { journal, bob, bobsIdentity, minted } = context;
  return journal.step(
    'mint-and-publish',
    `Bob's phone mints ${describeTiers(MINTED)} and publishes them`,
    'A coin is one key pair for one message. GOLD: post-quantum key and signature; SILVER: post-quantum key, classical ' +
      'signature; BRONZE: both classical, and small. The private half goes into the vault of the phone, sealed by the ' +
      'hardware key, before the public half goes to the server.',
    async () => {
      const coins = mintOn(context, bob, MINTED);
      journal.check(
        `he minted ${coins.length} coins with ${coins.length} different names`,
        countTiers(minted.values()),
        {
          ...MINTED,
        },
      );
      for (const tier of TIERS) {
        const { publicKeySize, signatureSize, publicKeyAlgorithm, signatureAlgorithm } = specOf(tier);
        const ofTier = coins.filter(({ coinCategory }) => coinCategory === tier);
        journal.check(
          `${tier}: ${publicKeyAlgorithm} key of ${publicKeySize} bytes, ${signatureAlgorithm} signature of ` +
            `${signatureSize} bytes, valid`,
          ofTier.map((coin) => [
            coin.publicKey.length,
            coin.signature.length,
            verifyCoin(publicHalfOf(coin), bobsIdentity),
          ]),
          ofTier.map(() => [publicKeySize, signatureSize, true]),
        );
      }

      const { results } = await publishCoins(bob.storage, bob.service, coins);
      journal.check(
        'the server accepted all of them',
        results.map(({ outcome }) => outcome),
        coins.map(() => 'INSERTED'),
      );
      const onServer = await stockOnServer(bob);
      journal.check(`the server has ${describeTiers(MINTED)} to hand out`, onServer, MINTED);
      const inVault = await stockInVault(bob);
      journal.check(`Bob's vault keeps the ${coins.length} private halves`, inVault, MINTED);
    },
  );
}

export function befriendAndTopUp(context: StoryContext): Promise<void> {
  const { journal, alice, bob } = context;
  return journal.step(
    'befriend-and-top-up',
    'Alice makes Bob a BESTIE and tops up',
    'She fetches coins of Bob while she is online and keeps them, so that she can write at once later. The number depends ' +
      "on the contact's priority: for a BESTIE 5 GOLD, 4 SILVER and 1 BRONZE.",
    async () => {
      await alice.storage.inventory.setPriority(bob.name, 'BESTIE');
      await topUpFromBob(context, 1, tierCounts(0, 0, 0));
      const cached = tierCounts(5, 4, 1);
      journal.check(`Alice keeps ${describeTiers(cached)}`, await stockForContact(alice, bob), cached);
      const left = tierCounts(0, 2, 4);
      journal.check(`the server has ${describeTiers(left)} left`, await stockOnServer(bob), left);
    },
  );
}

/** Mints coins on a device of Bob. Nothing is stored or sent yet. */
export function mintOn({ minted }: StoryContext, device: Person, counts: TierCounts): FreshCoin[] {
  const coins = TIERS.flatMap((tier) => Array.from({ length: counts[tier] }, () => mintCoin(tier, device)));
  for (const coin of coins) minted.set(coin.keyId, { ...publicHalfOf(coin), device });
  return coins;
}

/**
 * Alice fills up her budgets for Bob's devices, whose number is given. `missing` is what the server cannot provide.
 * Returns the coins that she forgot, because their device is gone.
 */
export async function topUpFromBob(
  { journal, alice, bob, bobsIdentity }: StoryContext,
  devices: number,
  missing: TierCounts,
): Promise<readonly CoinName[]> {
  const { contacts } = await topUp(alice.storage, alice.service, [{ contactId: bob.name, userId: bob.userId }], {
    verify: (coin) => verifyCoin(coin, bobsIdentity),
  });
  journal.check(
    `the top-up finds ${devices === 1 ? 'one device' : `${devices} devices`}; still missing: ${describeNonzeroTiers(missing)}`,
    contacts.map((contact) => [
      contact.error?.reason ?? 'no error',
      contact.devices.length,
      contact.discarded.length,
      contact.missing,
    ]),
    [['no error', devices, 0, missing]],
  );
  return contacts.flatMap(({ removed }) => removed);
}
