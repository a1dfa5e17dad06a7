import { CoinServiceError } from '../../coin-client/coin-service-error';
import type { DeviceStorage } from '../contract/device-storage';
import type { ContactAddress } from '../contract/pending-requests';
import { callItems } from './call-items';
import { type CoinServiceAccess, callService } from './service-call';
import type { TopUpDraft } from './top-up-draft';
import { deviceIdsOf, toDeviceList } from './wire-request';

/**
 * Asks the coin service for the devices of the contacts, and records them. The cached coins of devices that are gone are
 * forgotten, so that no message is encrypted for a device that was removed. What is known of a contact whose devices could
 * not be listed stays. Rejects with the CoinServiceError of a call that failed.
 */
export async function learnDevices(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  contacts: readonly ContactAddress[],
  draft: TopUpDraft,
): Promise<void> {
  await callItems(service, contacts, {
    send: (some, repetition) => {
      const requests = some.map(({ userId }) => toDeviceList(userId));
      return callService(service, service.client.fetchDeviceCoins, { requests }, repetition);
    },
    onAnswer: async (contact, { devices }) => {
      try {
        const { removed } = await storage.pendingRequests.learnDevices(contact.contactId, deviceIdsOf(devices));
        draft.addRemoved(contact, removed);
      } catch (error) {
        if (!(error instanceof CoinServiceError)) throw error;
        draft.fail(contact, error);
      }
      return null;
    },
    onFailure: async (contact, error) => draft.fail(contact, error),
  });
}
