import type { BackendName } from './backends';
import type { CoinServiceProcess } from './coin-service-process';
import type { PublicIdentity, SignedCoin } from './coin-signature';
import type { Conversation, Delivery } from './conversation';
import type { Journal } from './journal';
import { fetchOwnStock, type PostOffice } from './network-layer';
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
  /** All people with a device. The runner closes the devices, also if the story fails. */
  readonly people: Person[];
}

/** The people and objects of the story, once the devices are set up. */
export interface StoryContext {
  readonly journal: Journal;
  readonly backend: BackendName;
  readonly postOffice: PostOffice;
  readonly alice: Person;
  readonly bob: Person;
  readonly carol: Person;
  /** Bob's user id and public identity keys, given to Alice and Carol out of band. */
  readonly bobsIdentity: PublicIdentity;
  readonly minted: Map<string, SignedCoin>;
  readonly deliveries: Delivery[];
}

/** Creates a conversation from `sender` to Bob. */
export function conversationWithBob(context: StoryContext, sender: Person): Conversation {
  const { journal, postOffice, bob, bobsIdentity, minted } = context;
  return { journal, postOffice, sender, recipient: bob, recipientIdentity: bobsIdentity, minted };
}

/** Returns the coins of this person that the coin service can hand out. */
export async function stockOnServer({ service }: Person): Promise<TierCounts> {
  return fromInventoryCount(await fetchOwnStock(service));
}

/** Returns the private halves in this person's vault. */
export async function stockInVault({ storage: { vault } }: Person): Promise<TierCounts> {
  return tierCounts(
    await vault.countActive('GOLD'),
    await vault.countActive('SILVER'),
    await vault.countActive('BRONZE'),
  );
}

/** Returns the coins that this person's inventory holds for a contact. */
export async function stockForContact({ storage: { inventory } }: Person, contactId: string): Promise<TierCounts> {
  const [summary] = await inventory.getSummary(contactId);
  return summary ? summary.counts : tierCounts(0, 0, 0);
}
