import type { InventoryCoin } from '../device';
import type { CoinCategoryName } from '../gen/aqm/coin/v1/coin_categories';
import { encapsulationSize } from './algorithms';
import { type PublicIdentity, type SignedCoin, verifyCoin } from './coin-signature';
import { adviseTier, type Situation } from './context-manager';
import { openParcel, sealMessage } from './crypto-wrapper';
import type { Fact, Journal } from './journal';
import type { PostOffice } from './network-layer';
import { decodeParcel, PARCEL_OVERHEAD } from './parcel';
import type { Person } from './person';

/** The sender, the recipient's devices, and what the sender knows about the recipient without the coin service. */
export interface Conversation {
  readonly journal: Journal;
  readonly postOffice: PostOffice;
  readonly sender: Person;
  readonly recipients: readonly Person[];
  readonly recipientIdentity: PublicIdentity;
  /** Every coin that the recipient has minted, by key id, for comparison. */
  readonly minted: ReadonlyMap<string, SignedCoin>;
}

/** A delivered message. */
export interface Delivery {
  readonly keyId: string;
  readonly coinCategory: CoinCategoryName;
  /** The device that opened it. */
  readonly recipient: Person;
  /** The parcel as it was transmitted, which an attacker may have recorded. */
  readonly parcel: Buffer;
  /** The events, in words, and as facts that can be compared with those of a delivery without any fault. */
  readonly claim: string;
  readonly found: Fact;
  readonly expected: Fact;
}

/**
 * Sends one message to every device of the recipient, as the phone would: the context manager recommends a tier, and for
 * each device the inventory selects its best coin of that tier or below. Devices for which it has none get no message.
 */
export async function sendMessage(
  conversation: Conversation,
  text: string,
  situation: Situation,
  expectedTier: (recipient: Person) => CoinCategoryName,
): Promise<Delivery[]> {
  const { sender, recipients } = conversation;
  const { coinCategory: wanted } = adviseTier(situation);
  const deliveries: Delivery[] = [];
  const selections = await sender.storage.inventory.selectCoins(nameOf(recipients), wanted);
  for (const { coin } of selections) {
    if (coin !== null) deliveries.push(await deliver(conversation, text, coin, `wants ${wanted}, takes`, expectedTier));
  }
  return deliveries;
}

function nameOf(recipients: readonly Person[]): string {
  const [recipient] = recipients;
  if (!recipient) throw new Error('a conversation needs a recipient');
  return recipient.name;
}

/** Encrypts to the coin, transmits the parcel, and has the coin's device open it and burn the private half. */
export async function deliver(
  { postOffice, sender, recipients, recipientIdentity, minted }: Conversation,
  text: string,
  coin: InventoryCoin,
  how: string,
  expectedTier: (recipient: Person) => CoinCategoryName,
): Promise<Delivery> {
  const { keyId, coinCategory } = coin;
  const recipient = recipients.find(({ deviceId }) => deviceId === coin.deviceId);
  if (!recipient) throw new Error('the coin belongs to no device of the recipient');
  const original = minted.get(keyId);
  const signatureHolds = verifyCoin(coin, recipientIdentity);
  const size = postOffice.send(recipient, sealMessage(text, coin, recipientIdentity));

  const parcel = postOffice.collect(recipient);
  const opened = await openParcel(decodeParcel(parcel), { ...recipient.storage, hardwareKey: recipient.hardwareKey });

  return {
    keyId,
    coinCategory,
    recipient,
    parcel,
    claim: `${sender.name} ${how} ${coinCategory}, sends ${size} bytes; ${recipient.device} reads "${text}", burns the coin`,
    found: {
      coinCategory,
      signatureHolds,
      sameKeyAsMinted: original !== undefined && Buffer.from(coin.publicKey).equals(original.publicKey),
      parcelBytes: parcel.length,
      read: opened.opened ? opened.text : opened.reason,
      privateHalf: await recipient.storage.vault.getStatus(keyId),
    },
    expected: {
      coinCategory: expectedTier(recipient),
      signatureHolds: true,
      sameKeyAsMinted: true,
      parcelBytes: PARCEL_OVERHEAD + encapsulationSize(expectedTier(recipient)) + Buffer.byteLength(text),
      read: text,
      privateHalf: 'BURNED',
    },
  };
}
