import { CoinServiceError, publishCoins } from '../../device';
import { mintCoin } from '../coin-minting';
import { sendMessage } from '../conversation';
import { listOwnDevices } from '../network-layer';
import type { Person } from '../person';
import { conversationWithBob, type StoryContext, stockForContact, stockOnServer } from '../story-context';
import { countTiers, describeTiers, tierCounts } from '../tiers';
import { AT_HOME } from './alice-writes';
import { mintOn, topUpFromBob } from './stock-up';

const MINTED = tierCounts(1, 1, 3);

export function writeToBothDevices(context: StoryContext): Promise<void> {
  const { journal, alice, bob, laptop, deliveries } = context;
  return journal.step(
    'both-devices',
    "Bob's laptop publishes coins too, and Alice writes to both devices",
    'Each device has a vault and coins of its own. The next top-up finds the laptop. A message is encrypted once for each ' +
      'device, with a coin that only that device can open.',
    async () => {
      await publishCoins(laptop.storage, laptop.service, mintOn(context, laptop, MINTED));
      journal.check(
        `the server has ${describeTiers(MINTED)} of the laptop; the phone's coins are as they were`,
        [await stockOnServer(laptop), await stockOnServer(bob)],
        [MINTED, tierCounts(0, 1, 3)],
      );
      await topUpFromBob(context, 2, tierCounts(9, 6, 0));
      const [ofPhone, ofLaptop] = [tierCounts(0, 1, 1), tierCounts(1, 1, 1)];
      journal.check(
        `Alice keeps ${describeTiers(ofPhone)} of the phone, ${describeTiers(ofLaptop)} of the laptop`,
        [await stockForContact(alice, bob), await stockForContact(alice, laptop)],
        [ofPhone, ofLaptop],
      );
      const tierFor = (recipient: Person) => (recipient === laptop ? 'GOLD' : 'SILVER');
      const sent = await sendMessage(conversationWithBob(context, alice), 'Photo 10', AT_HOME, tierFor);
      for (const { claim, found, expected } of sent) journal.check(claim, found, expected);
      journal.check(
        "neither vault ever had the private half of the other device's coin",
        await Promise.all(
          sent.map(({ keyId, recipient }) => otherOf(context, recipient).storage.vault.getStatus(keyId)),
        ),
        ['ABSENT', 'ABSENT'],
      );
      deliveries.push(...sent);
    },
  );
}

export function loseLaptop(context: StoryContext): Promise<void> {
  const { journal, alice, bob, laptop, minted, deliveries } = context;
  return journal.step(
    'lost-laptop',
    'Bob loses the laptop and removes it',
    'One call from his phone: the server hands out none of its coins any more, and refuses new ones. Senders learn of it ' +
      'with their next top-up.',
    async () => {
      const { retiredCount } = await bob.service.calls.removeDevice({ deviceId: laptop.deviceId });
      journal.check(
        `the server retires the ${retiredCount} coins of the laptop that it still had, and lists the phone only`,
        [retiredCount, (await listOwnDevices(bob.service)).map(({ deviceId }) => deviceId)],
        [2, [bob.deviceId ?? '']],
      );
      journal.check(
        'whoever found the laptop can publish nothing: DEVICE_REMOVED',
        await refusalOf(context),
        'DEVICE_REMOVED',
      );
      const forgotten = await topUpFromBob(context, 1, tierCounts(5, 4, 0));
      journal.check(
        `Alice forgets the ${forgotten.length} coins of the laptop that she kept; those of the phone stay`,
        [countTiers(forgotten), await stockForContact(alice, laptop), await stockForContact(alice, bob)],
        [tierCounts(0, 1, 1), tierCounts(0, 0, 0), tierCounts(0, 0, 1)],
      );
      const ofLaptop = [...minted.values()].filter(({ device }) => device === laptop).length;
      const opened = deliveries.filter(({ recipient }) => recipient === laptop).length;
      journal.check(
        `its ${ofLaptop} coins: ${opened} used, ${retiredCount} retired, ${forgotten.length} forgotten`,
        opened + retiredCount + forgotten.length,
        ofLaptop,
      );
    },
  );
}

function otherOf({ bob, laptop }: StoryContext, device: Person): Person {
  return device === laptop ? bob : laptop;
}

/** Publishes a coin of the laptop that no one counts. Returns the reason for which it is refused. */
async function refusalOf({ laptop }: StoryContext): Promise<string> {
  try {
    await publishCoins(laptop.storage, laptop.service, [mintCoin('BRONZE', laptop)]);
    return 'none';
  } catch (error) {
    if (error instanceof CoinServiceError) return error.reason;
    throw error;
  }
}
