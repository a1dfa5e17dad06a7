import { connectCoinService } from '../../../coin-client';
import { Network } from '../../../testkit/network';
import { mintedCoin, withFixture } from '../../conformance/harness';
import { publishCoins, topUp } from '../../index';
import { eachBackend } from '../each-backend';
import { ScriptedCoinService } from './scripted-coin-service';

const backend = eachBackend();

backend.describe('a connection that is dropped without a word', () => {
  it('is replaced under a flow, which needs no other client', () =>
    withFixture(backend.harness, async ({ storage }) => {
      const service = await ScriptedCoinService.start();
      const target = service.access.client.getChannel().getTarget();
      const network = await Network.start(target.replace(/^dns:/, ''));
      const { client, close } = connectCoinService(network.address, { token: () => 'a.b.c' });
      const access = { ...service.access, client, timeoutMs: 3_000, retry: { withinMs: 200_000 } };
      await publishCoins(storage, access, [mintedCoin(1)]);
      network.dropConnections();
      const { results } = await publishCoins(storage, access, [mintedCoin(2)]);
      expect(results).toMatchObject([{ outcome: 'INSERTED' }]);
      const { contacts } = await topUp(storage, access, [
        { contactId: 'bob', userId: '0d2b9a4e-5c1f-4e7a-9b3d-6f8e2a1c4d5b' },
      ]);
      expect(contacts[0]?.error).toBeUndefined();
      close();
      network.stop();
      service.stop();
    }));
});
