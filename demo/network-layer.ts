// A stand-in for the Network Layer module: the gRPC connection to the coin service, and the transport of parcels.
import { type CoinServiceCalls, connectCoinService } from '../coin-client';
import type { CoinServiceAccess } from '../device';
import type { InventoryCount } from '../gen/aqm/coin/v1/coin';
import { encodeParcel, type Parcel } from './parcel';

/** A connection, for direct calls and for the flows of the device library. */
export interface ServiceConnection extends CoinServiceAccess {
  readonly calls: CoinServiceCalls;
}

/** Connects without TLS, which is acceptable on loopback only: on any other link the token would be readable. */
export function connect(address: string, token: string): ServiceConnection {
  const calls = connectCoinService(address, { token: () => token });
  return { calls, client: calls.client, token: () => token };
}

/** Returns the stock of the user that the token identifies. */
export async function fetchOwnStock({ calls }: ServiceConnection): Promise<InventoryCount> {
  const { available } = await calls.getInventoryCount();
  if (!available) throw new Error('the response of GetInventoryCount has no count');
  return available;
}

/** Carries parcels between devices as bytes. It can read only their key id and size. */
export class PostOffice {
  readonly #mailboxes = new Map<string, Buffer[]>();

  /** Puts a parcel into the recipient's mailbox. @returns its size in bytes */
  send(recipientUserId: string, parcel: Parcel): number {
    const bytes = encodeParcel(parcel);
    const mailbox = this.#mailboxes.get(recipientUserId) ?? [];
    this.#mailboxes.set(recipientUserId, [...mailbox, bytes]);
    return bytes.length;
  }

  /** Takes the oldest parcel from a mailbox. */
  collect(userId: string): Buffer {
    const bytes = this.#mailboxes.get(userId)?.shift();
    if (!bytes) throw new Error('the mailbox is empty');
    return bytes;
  }
}
