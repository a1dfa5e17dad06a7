// A stand-in for the Network Layer module: the gRPC connection to the coin service, and the transport of parcels.
import { type CoinServiceCalls, connectCoinService } from '../coin-client';
import type { CoinServiceAccess } from '../device';
import type { DeviceInfo } from '../gen/aqm/coin/v1/coin_service';
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

/** Returns the devices of the user that the token identifies, each with its stock. */
export async function listOwnDevices({ calls }: ServiceConnection): Promise<DeviceInfo[]> {
  const { devices } = await calls.listDevices();
  return devices;
}

/** Carries parcels between devices as bytes. It can read only their key id and size. */
export class PostOffice {
  readonly #mailboxes = new Map<string, Buffer[]>();

  /** Puts a parcel into the mailbox of a device. @returns its size in bytes */
  send(recipient: Recipient, parcel: Parcel): number {
    const bytes = encodeParcel(parcel);
    const mailbox = this.#mailboxes.get(addressOf(recipient)) ?? [];
    this.#mailboxes.set(addressOf(recipient), [...mailbox, bytes]);
    return bytes.length;
  }

  /** Takes the oldest parcel from the mailbox of a device. */
  collect(recipient: Recipient): Buffer {
    const bytes = this.#mailboxes.get(addressOf(recipient))?.shift();
    if (!bytes) throw new Error('the mailbox is empty');
    return bytes;
  }
}

/** A device to which parcels are sent. */
interface Recipient {
  readonly userId: string;
  readonly deviceId?: string;
}

function addressOf({ userId, deviceId = '' }: Recipient): string {
  return `${userId}/${deviceId}`;
}
