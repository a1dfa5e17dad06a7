import { fetchForDevices } from '../../device';
import { verifyCoin } from '../coin-signature';
import { deliver } from '../conversation';
import { ForgedCoinError, openParcel, sealMessage } from '../crypto-wrapper';
import { decodeParcel, encodeParcel } from '../parcel';
import { conversationWithBob, type StoryContext, stockForContact, stockInVault, stockOnServer } from '../story-context';
import { describeTiers, tierCounts } from '../tiers';

export function carolWrites(context: StoryContext): Promise<void> {
  const { journal, carol, alice, bob, bobsIdentity, deliveries } = context;
  return journal.step(
    'stranger',
    'Carol, a stranger to Bob, writes once',
    'No coins of strangers are kept in advance: when she writes, she fetches one coin for each of his devices and uses it ' +
      'at once. She wants GOLD and takes the best tier in stock.',
    async () => {
      const fetched = await fetchForDevices(
        carol.storage,
        carol.service,
        { contactId: bob.name, userId: bob.userId, coinCategory: 'GOLD', allowLowerCategories: true },
        { verify: (coin) => verifyCoin(coin, bobsIdentity) },
      );
      journal.check(
        'she gets a coin for his phone, and none for the laptop: it is not addressed any more',
        fetched.map(({ deviceId = '' }) => deviceId),
        [bob.deviceId ?? ''],
      );
      const [coin] = fetched.map((device) => device.coin);
      if (!coin) throw new Error('the server had no coin of Bob for Carol');
      const cached = tierCounts(0, 0, 0);
      journal.check('to her, Bob is a STRANGER: she keeps no coin of his', await stockForContact(carol, bob), cached);

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
        'a parcel with one bit flipped in transit is refused as DAMAGED, and burns nothing',
        [await openParcel(decodeParcel(flipLastBit(parcel)), opener), await stockInVault(bob)],
        [{ opened: false, reason: 'DAMAGED' }, inVault],
      );
      const delivery = await deliver(
        conversationWithBob(context, carol),
        text,
        coin,
        'wants GOLD, gets',
        () => 'BRONZE',
      );
      journal.check(delivery.claim, delivery.found, delivery.expected);
      deliveries.push(delivery);

      const left = tierCounts(0, 0, 1);
      journal.check(`the server has ${describeTiers(left)} left`, await stockOnServer(bob), left);
      const toAlice = { contactId: alice.name, userId: alice.userId, coinCategory: 'BRONZE' } as const;
      journal.check(
        'Alice never published a coin: she has no devices, so Carol can send her nothing yet',
        (await fetchForDevices(carol.storage, carol.service, toAlice)).length,
        0,
      );
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
