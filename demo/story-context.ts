import type { BackendName } from './backends';
import type { CoinServiceProcess } from './coin-service-process';
import type { PublicIdentity, SignedCoin } from './coin-signature';
import type { Conversation, Delivery } from './conversation';
import type { Journal } from './journal';
import { listOwnDevices, type PostOffice } from './network-layer';
import type { Person } from './person';
import { fromInventoryCount, type TierCounts, tierCounts } from './tiers';

/** The resources that the runner provides to the story. */
export interface RunContext {
  readonly journal: Journal;
  readonly backend: BackendName;
  /** An empty folder for the devices, which the runner removes. */
  readonly folder: string;
  readonly service: CoinServiceProcess;
  /** The URL of the devices' Redis. Empty if the backend needs none. */
  readonly redisUrl: string;
  /** All devices. The runner closes them, also if the story fails. */
  readonly people: Person[];
}

/** The people and objects of the story, once the devices are set up. */
export interface StoryContext {
  readonly journal: Journal;
  readonly backend: BackendName;
  readonly postOffice: PostOffice;
  readonly alice: Person;
  /** Bob's phone. */
  readonly bob: Person;
  readonly laptop: Person;
  readonly carol: Person;
  /** Bob's user id and public identity keys, given to Alice and Carol out of band. */
  readonly bobsIdentity: PublicIdentity;
  /** Every coin that Bob's devices have minted, by key id. */
  readonly minted: Map<string, MintedOn>;
  readonly deliveries: Delivery[];
}

/** A public half, and the device that holds its private half. */
export interface MintedOn extends SignedCoin {
  readonly device: Person;
}

/** Creates a conversation from `sender` to Bob. */
export function conversationWithBob(context: StoryContext, sender: Person): Conversation {
  const { journal, postOffice, bob, laptop, bobsIdentity, minted } = context;
  return { journal, postOffice, sender, recipients: [bob, laptop], recipientIdentity: bobsIdentity, minted };
}

/** Returns the coins of this device that the coin service can hand out. */
export async function stockOnServer({ service, deviceId = '' }: Person): Promise<TierCounts> {
  const device = (await listOwnDevices(service)).find((listed) => listed.deviceId === deviceId);
  return device?.available ? fromInventoryCount(device.available) : tierCounts(0, 0, 0);
}

/** Returns the private halves in the vault of this device. */
export async function stockInVault({ storage: { vault } }: Person): Promise<TierCounts> {
  return tierCounts(
    await vault.countActive('GOLD'),
    await vault.countActive('SILVER'),
    await vault.countActive('BRONZE'),
  );
}

/** Returns the coins of this device of a contact that an inventory holds. */
export async function stockForContact(
  { storage: { inventory } }: Person,
  { name, deviceId }: Person,
): Promise<TierCounts> {
  const [summary] = await inventory.getSummary(name);
  const device = summary?.devices.find((known) => known.deviceId === deviceId);
  return device ? device.counts : tierCounts(0, 0, 0);
}
