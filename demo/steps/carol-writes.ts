import { fetchOnDemand } from '../../device';
import { verifyCoin } from '../coin-signature';
import { deliver } from '../conversation';
import { ForgedCoinError, openParcel, sealMessage } from '../crypto-wrapper';
import { decodeParcel, encodeParcel } from '../parcel';
import { conversationWithBob, type StoryContext, stockForContact, stockInVault, stockOnServer } from '../story-context';
import { describeTiers, tierCounts } from '../tiers';

export function carolWrites(context: StoryContext): Promise<void> {
  const { journal, carol, bob, bobsIdentity, deliveries } = context;
  return journal.step(
    'stranger',
    'Carol, a stranger to Bob, writes once',
    'No coins of strangers are kept in advance: she fetches one coin when she writes and uses it at once. She wants GOLD ' +
      'and takes the best tier in stock.',
    async () => {
      journal.check('to Carol, Bob is a STRANGER', await carol.storage.inventory.getPriority(bob.name), 'STRANGER');
      const coin = await fetchOnDemand(
        carol.storage,
        carol.service,
        { contactId: bob.name, userId: bob.userId, coinCategory: 'GOLD', allowLowerCategories: true },
        { verify: (fetched) => verifyCoin(fetched, bobsIdentity) },
      );
      if (!coin) throw new Error('the server had no coin of Bob for Carol');
      const cached = tierCounts(0, 0, 0);
      journal.check('she keeps no coin of his', await stockForContact(carol, bob.name), cached);

      const text = 'Hello Bob!';
      const swapped = { ...coin, publicKey: flipLastBit(coin.publicKey) };
      journal.check(
        'a key that was modified in transit is detected: its signature is invalid',
        isForged(() => sealMessage(text, swapped, bobsIdentity)),
        true,
      );

      const inVault = await stockInVault(bob);
      const parcel = encodeParcel(sealMessage(text, coin, bobsIdentity));
      const opener = { vault: bob.storage.vault, hardwareKey: bob.hardwareKey };
      journal.check(
        'a parcel with one bit flipped in transit is refused as DAMAGED',
        await openParcel(decodeParcel(flipLastBit(parcel)), opener),
        { opened: false, reason: 'DAMAGED' },
      );
      journal.check('it burns nothing, so the real one can still be opened', await stockInVault(bob), inVault);
      deliveries.push(await deliver(conversationWithBob(context, carol), text, coin, 'wants GOLD, gets', 'BRONZE'));

      const left = tierCounts(0, 0, 1);
      journal.check(`the server has ${describeTiers(left)} left`, await stockOnServer(bob), left);
    },
  );
}

function flipLastBit(bytes: Uint8Array): Buffer {
  const changed = Buffer.from(bytes);
  changed.writeUInt8(changed.readUInt8(changed.length - 1) ^ 1, changed.length - 1);
  return changed;
}

function isForged(attempt: () => unknown): boolean {
  try {
    attempt();
    return false;
  } catch (error) {
    return error instanceof ForgedCoinError;
  }
}
