import type { BackendName } from './backends';
import type { CoinServiceProcess } from './coin-service-process';
import type { IdentityPublicKeys, SignedCoin } from './coin-signature';
import type { Conversation, Delivery } from './conversation';
import type { Journal } from './journal';
import { fetchOwnStock, type PostOffice } from './network-layer';
import type { Person } from './person';
import { fromInventoryCount, type TierCounts, tierCounts } from './tiers';

/** What the story needs from whoever runs it. */
export interface Stage {
  readonly journal: Journal;
  readonly backend: BackendName;
  /** Empty, and removed afterwards; holds one folder per device. */
  readonly folder: string;
  readonly service: CoinServiceProcess;
  /** The Redis of the devices; empty where the backend needs none. */
  readonly redisUrl: string;
  /** Everybody who has a device; the runner switches them off, also when the story breaks off. */
  readonly people: Person[];
}

/** Everybody and everything, once the devices are set up. */
export interface Scene {
  readonly journal: Journal;
  readonly backend: BackendName;
  readonly postOffice: PostOffice;
  readonly alice: Person;
  readonly bob: Person;
  readonly carol: Person;
  /** Given to Alice and Carol out of band. */
  readonly bobsKeys: IdentityPublicKeys;
  readonly minted: Map<string, SignedCoin>;
  readonly deliveries: Delivery[];
}

export function conversationWithBob(scene: Scene, sender: Person): Conversation {
  const { journal, postOffice, bob, bobsKeys, minted } = scene;
  return { journal, postOffice, sender, recipient: bob, recipientKeys: bobsKeys, minted };
}

/** What the coin service could hand out of this person's coins. */
export async function stockOnServer({ service }: Person): Promise<TierCounts> {
  return fromInventoryCount(await fetchOwnStock(service));
}

/** What this person could still open. */
export async function stockInVault({ storage: { vault } }: Person): Promise<TierCounts> {
  return tierCounts(
    await vault.countActive('GOLD'),
    await vault.countActive('SILVER'),
    await vault.countActive('BRONZE'),
  );
}

/** What this person could write to that contact without asking the server. */
export async function stockForContact({ storage: { inventory } }: Person, contactId: string): Promise<TierCounts> {
  const [summary] = await inventory.getSummary(contactId);
  return summary ? summary.counts : tierCounts(0, 0, 0);
}
