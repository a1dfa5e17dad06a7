import { credentials } from '@grpc/grpc-js';
import { CoinServiceClient } from '../../../gen/aqm/coin/v1/coin_service';
import { mintedCoin } from '../../conformance/harness';
import { type DeviceStorage, fetchOnDemand, publishCoins, topUp } from '../../index';
import { CONTACT, type KillJob, type ServiceFlow, type Work } from './job';
import { watchCalls } from './kill-points';

/** Returns the work of a process whose flow calls the coin service. */
export function workWithService(
  { first, peer, address, token }: KillJob,
  flow: ServiceFlow,
  storage: DeviceStorage,
): Work {
  const client = new CoinServiceClient(address, credentials.createInsecure());
  const service = { client: watchCalls(client), token: () => token };
  const close = () => client.close();
  const contact = { contactId: CONTACT, userId: peer };
  const { inventory } = storage;
  switch (flow) {
    case 'publish':
      return {
        close,
        resume: async () => {
          await publishCoins(storage, service, []);
          return [];
        },
        run: async () => {
          const minted = [mintedCoin(first), mintedCoin(first + 1, 'BRONZE'), mintedCoin(first + 2)];
          return (await publishCoins(storage, service, minted)).results.map(({ keyId }) => keyId);
        },
      };
    case 'top-up':
      return {
        close,
        resume: async () => {
          await inventory.setPriority(CONTACT, 'BESTIE');
          await topUp(storage, service, [contact]);
          const ids: string[] = [];
          for (;;) {
            const coin = await inventory.selectCoin(CONTACT, 'GOLD');
            if (coin === null) return ids;
            ids.push(coin.keyId);
          }
        },
        run: async () => {
          await topUp(storage, service, [contact]);
          return [];
        },
      };
    case 'fetch-on-demand': {
      const run = async () => {
        const coin = await fetchOnDemand(storage, service, { ...contact, coinCategory: 'GOLD' });
        return coin === null ? [] : [coin.keyId];
      };
      return { close, resume: run, run };
    }
  }
}
