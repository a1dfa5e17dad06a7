import { randomBytes, randomUUID } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import type { Coin } from '../../gen/aqm/coin/v1/coin';
import { COIN_CATEGORIES } from '../../gen/aqm/coin/v1/coin_categories';
import { CoinServiceClient, UploadCoinsRequest } from '../../gen/aqm/coin/v1/coin_service';
import { CallError, call } from '../../testkit/call';

/** Coins per upload. */
export const BATCH = 100;

/** Uploads batches that rotate through the categories, as several users in rotation. */
export class Uploaders {
  readonly #clients: readonly CoinServiceClient[];
  readonly #tokens: readonly string[];
  readonly #keys = COIN_CATEGORIES.map((spec) => ({
    coinCategory: spec.category,
    publicKey: randomBytes(spec.publicKeySize),
    signature: randomBytes(spec.signatureSize),
  }));
  #next = 0;

  constructor(address: string, tokens: readonly string[], connections: number) {
    const options = { 'grpc.use_local_subchannel_pool': 1 };
    this.#clients = Array.from(
      { length: connections },
      () => new CoinServiceClient(address, credentials.createInsecure(), options),
    );
    this.#tokens = tokens;
  }

  /** Makes one upload. @returns the number of coins stored, and the reason or code of the error if the call failed */
  async upload(): Promise<{ readonly inserted: number; readonly failure?: string }> {
    const index = this.#next++;
    const client = this.#clients[index % this.#clients.length];
    if (!client) throw new Error('at least one connection is required');
    const request = UploadCoinsRequest.create({ databaseEpoch: '' });
    request.coins = Array.from({ length: BATCH }, (_, place) => this.#coin(place));
    try {
      const answer = await call(client.uploadCoins.bind(client), request, this.#tokens[index % this.#tokens.length]);
      return { inserted: answer.insertedCount };
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      return { inserted: 0, failure: error.reason || error.code };
    }
  }

  #coin(place: number): Coin {
    const key = this.#keys[place % this.#keys.length];
    if (!key) throw new Error('there is no category');
    return { ...key, keyId: randomUUID(), expireTime: undefined, deviceId: '' };
  }

  close(): void {
    for (const client of this.#clients) client.close();
  }
}
