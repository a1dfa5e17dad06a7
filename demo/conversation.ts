import type { InventoryCoin } from '../device';
import type { CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';
import { encapsulationSize } from './algorithms';
import { type PublicIdentity, type SignedCoin, verifyCoin } from './coin-signature';
import { adviseTier, type Situation } from './context-manager';
import { openParcel, sealMessage } from './crypto-wrapper';
import type { Journal } from './journal';
import type { PostOffice } from './network-layer';
import { decodeParcel, PARCEL_OVERHEAD } from './parcel';
import type { Person } from './person';

/** The sender, the recipient, and what the sender knows about the recipient without the coin service. */
export interface Conversation {
  readonly journal: Journal;
  readonly postOffice: PostOffice;
  readonly sender: Person;
  readonly recipient: Person;
  readonly recipientIdentity: PublicIdentity;
  /** Every coin that the recipient has minted, by key id, for comparison. */
  readonly minted: ReadonlyMap<string, SignedCoin>;
}

/** A delivered message. */
export interface Delivery {
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
  /** The parcel as it was transmitted, which an attacker may have recorded. */
  readonly parcel: Buffer;
}

/**
 * Sends one message as the phone would: the context manager recommends a tier, and the inventory selects its best coin
 * of that tier or below. Returns null if it has none.
 */
export async function sendMessage(
  conversation: Conversation,
  text: string,
  situation: Situation,
  expectedTier: CoinCategoryName,
): Promise<Delivery | null> {
  const { sender, recipient } = conversation;
  const { coinCategory: wanted } = adviseTier(situation);
  const coin = await sender.storage.inventory.selectCoin(recipient.name, wanted);
  if (!coin) return null;
  const delivery = await deliver(conversation, text, coin, `wants ${wanted}, takes`, expectedTier);
  return delivery;
}

/**
 * Encrypts to the coin, transmits the parcel, and has the recipient open it and burn the private half. Checks every
 * step.
 */
export async function deliver(
  { journal, postOffice, sender, recipient, recipientIdentity, minted }: Conversation,
  text: string,
  coin: InventoryCoin,
  how: string,
  expectedTier: CoinCategoryName,
): Promise<Delivery> {
  const { keyId, coinCategory } = coin;
  const original = minted.get(keyId);
  const signatureHolds = verifyCoin(coin, recipientIdentity);
  const size = postOffice.send(recipient.userId, sealMessage(text, coin, recipientIdentity));

  const parcel = postOffice.collect(recipient.userId);
  const opened = await openParcel(decodeParcel(parcel), { ...recipient.storage, hardwareKey: recipient.hardwareKey });

  journal.check(
    `${sender.name} ${how} ${coinCategory}, sends ${size} bytes; ${recipient.name} reads "${text}", burns the coin`,
    {
      coinCategory,
      signatureHolds,
      sameKeyAsMinted: original !== undefined && Buffer.from(coin.publicKey).equals(original.publicKey),
      parcelBytes: parcel.length,
      read: opened.opened ? opened.text : opened.reason,
      privateHalf: await recipient.storage.vault.getStatus(keyId),
    },
    {
      coinCategory: expectedTier,
      signatureHolds: true,
      sameKeyAsMinted: true,
      parcelBytes: PARCEL_OVERHEAD + encapsulationSize(expectedTier) + Buffer.byteLength(text),
      read: text,
      privateHalf: 'BURNED',
    },
  );
  return { keyId, coinCategory, parcel };
}
