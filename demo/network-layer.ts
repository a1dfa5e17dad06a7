// A stand-in for the Network Layer module: the gRPC connection to the coin service, and the transport of parcels.
import { credentials, Metadata } from '@grpc/grpc-js';
import type { CoinServiceAccess } from '../device';
import type { InventoryCount } from '../gen/aqm/coin/v1/coin';
import { CoinServiceClient } from '../gen/aqm/coin/v1/coin_service';
import { encodeParcel, type Parcel } from './parcel';

/** Connects without TLS, which is acceptable on loopback only: on any other link the token would be readable. */
export function connect(address: string, token: string): CoinServiceAccess {
  return { client: new CoinServiceClient(address, credentials.createInsecure()), token: () => token };
}

/** Returns the stock of the user that the token identifies. */
export async function fetchOwnStock({ client, token }: CoinServiceAccess): Promise<InventoryCount> {
  const metadata = new Metadata();
  metadata.set('authorization', `Bearer ${await token()}`);
  const deadline = Date.now() + 10_000;
  return new Promise((resolve, reject) => {
    client.getInventoryCount({}, metadata, { deadline }, (error, response) => {
      if (error) reject(error);
      else if (!response.available) reject(new Error('the response of GetInventoryCount has no count'));
      else resolve(response.available);
    });
  });
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
