import type { CoinCategoryName } from '../../gen/aqm/coin/v1/coin_categories';
import { adviseTier, type Situation } from '../context-manager';
import { type Delivery, sendMessage } from '../conversation';
import { openParcel } from '../crypto-wrapper';
import { decodeParcel } from '../parcel';
import { conversationWithBob, type StoryContext, stockForContact, stockInVault } from '../story-context';
import { describeTiers, TIERS, tierCounts } from '../tiers';
import { topUpFromBob } from './stock-up';

export const AT_HOME: Situation = { link: 'Wi-Fi', battery: 1 };

const SITUATIONS: readonly (readonly [where: string, Situation, text: string, CoinCategoryName])[] = [
  ['Home Wi-Fi, full battery', AT_HOME, 'Dinner at eight?', 'GOLD'],
  ['Cellular, battery at 60 %', { link: 'cellular', battery: 0.6 }, 'Running late.', 'SILVER'],
  ['Cellular, battery at 4 %', { link: 'cellular', battery: 0.04 }, 'Phone is dying!', 'BRONZE'],
];

export function writeInThreeSituations(context: StoryContext): Promise<void> {
  const { journal, alice, bob } = context;
  return journal.step(
    'three-situations',
    'Alice writes to Bob in three situations',
    'The context manager on her phone chooses the tier from link and battery. She verifies that Bob signed the coin, ' +
      'encrypts with it and sends. Bob opens the parcel with the private half from his vault and burns that half.',
    async () => {
      for (const [where, situation, text, tier] of SITUATIONS) {
        const { coinCategory, because } = adviseTier(situation);
        journal.note(`${where}: ${coinCategory}, because ${because}.`);
        for (const { claim, found, expected } of await send(context, text, situation, tier)) {
          journal.check(claim, found, expected);
        }
      }
      const cached = tierCounts(4, 3, 0);
      journal.check(`Alice keeps ${describeTiers(cached)}`, await stockForContact(alice, bob), cached);
      const inVault = tierCounts(4, 5, 4);
      journal.check(`Bob's vault can still open ${describeTiers(inVault)}`, await stockInVault(bob), inVault);
    },
  );
}

export function writeUntilTiersRunOut(context: StoryContext): Promise<void> {
  const { journal, alice, bob } = context;
  return journal.step(
    'tiers-run-out',
    'Alice tops up and sends photos until nothing is left',
    'A top-up fetches only what is missing. At home she wants GOLD; when a tier is used up, the next lower one is used, and ' +
      'when nothing is left, nothing is sent.',
    async () => {
      await topUpFromBob(context, 1, tierCounts(1, 0, 0));
      const cached = tierCounts(4, 4, 1);
      journal.check(
        `the server had no GOLD left, so Alice now keeps ${describeTiers(cached)}`,
        await stockForContact(alice, bob),
        cached,
      );

      const tiers = TIERS.flatMap((tier) => Array.from({ length: cached[tier] }, () => tier));
      const photos: Delivery[] = [];
      for (const [index, tier] of tiers.entries()) {
        photos.push(...(await send(context, `Photo ${index + 1}`, AT_HOME, tier)));
      }
      journal.check(
        `${photos.length} photos take ${describeTiers(cached)}; Bob reads each of them and burns its coin`,
        photos.map(({ found }) => found),
        photos.map(({ expected }) => expected),
      );
      const refused = await sendMessage(conversationWithBob(context, alice), 'Photo 10', AT_HOME, () => 'GOLD');
      journal.check('photo 10: no coin of Bob is left, and the inventory returns none', refused.length, 0);
    },
  );
}

export function tryReplay({ journal, bob, deliveries }: StoryContext): Promise<void> {
  return journal.step(
    'replay',
    'An attacker recorded the first message and sends it again',
    'Its private half is burned: the vault has nothing left that could open it, not even for Bob himself.',
    async () => {
      const [first] = deliveries;
      if (!first) throw new Error('no message was recorded');
      const before = await stockInVault(bob);
      journal.check(
        'the vault has no private half for it',
        (await bob.storage.vault.fetchKey(first.keyId)) === null,
        true,
      );
      const opener = { vault: bob.storage.vault, hardwareKey: bob.hardwareKey };
      journal.check('Bob refuses the replay, as BURNED', await openParcel(decodeParcel(first.parcel), opener), {
        opened: false,
        reason: 'BURNED',
      });
      journal.check(
        'burning it again burns nothing, and touches no other coin',
        [await bob.storage.vault.burnKey(first.keyId), await stockInVault(bob)],
        [false, before],
      );
    },
  );
}

async function send(
  context: StoryContext,
  text: string,
  situation: Situation,
  tier: CoinCategoryName,
): Promise<readonly Delivery[]> {
  const deliveries = await sendMessage(conversationWithBob(context, context.alice), text, situation, () => tier);
  if (deliveries.length !== 1) throw new Error(`"${text}" was delivered ${deliveries.length} times`);
  context.deliveries.push(...deliveries);
  return deliveries;
}
