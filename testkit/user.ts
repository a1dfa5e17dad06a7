import { randomUUID } from 'node:crypto';
import { credentials } from '@grpc/grpc-js';
import type { Coin } from '../gen/aqm/coin/v1/coin';
import { CoinAdminServiceClient } from '../gen/aqm/coin/v1/coin_admin_service';
import {
  type BatchFetchCoinsResponse,
  CoinServiceClient,
  DeviceCoinsRequest,
  FetchCoinsRequest,
  type FetchCoinsResponse,
  type FetchDeviceCoinsResponse,
  type GetInventoryCountResponse,
  type ListDevicesResponse,
  ReconcileCoinsRequest,
  type ReconcileCoinsResponse,
  UploadCoinsRequest,
  type UploadCoinsResponse,
} from '../gen/aqm/coin/v1/coin_service';
import { developmentKey, issueToken } from '../services/coin/identity/development-key';
import { call } from './call';

/** Distributes the calls over all addresses of a service. */
const ROUND_ROBIN = JSON.stringify({ loadBalancingConfig: [{ round_robin: {} }] });

/** Calls a service as one user, over a connection that no other user shares. */
export class User {
  readonly #coins: CoinServiceClient;
  readonly #admin: CoinAdminServiceClient;

  constructor(
    address: string,
    readonly id: string,
    readonly token: string,
  ) {
    const options = {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.service_config': ROUND_ROBIN,
    };
    this.#coins = new CoinServiceClient(address, credentials.createInsecure(), options);
    this.#admin = new CoinAdminServiceClient(address, credentials.createInsecure(), options);
  }

  upload(coins: readonly Coin[], databaseEpoch = '', deviceId = ''): Promise<UploadCoinsResponse> {
    const request = UploadCoinsRequest.create({ databaseEpoch, deviceId });
    request.coins = [...coins];
    return call(this.#coins.uploadCoins.bind(this.#coins), request, this.token);
  }

  fetch(request: Partial<FetchCoinsRequest>, deadlineMs?: number): Promise<FetchCoinsResponse> {
    return call(this.#coins.fetchCoins.bind(this.#coins), FetchCoinsRequest.create(request), this.token, deadlineMs);
  }

  batchFetch(requests: readonly Partial<FetchCoinsRequest>[]): Promise<BatchFetchCoinsResponse> {
    const batch = { requests: requests.map((request) => FetchCoinsRequest.create(request)) };
    return call(this.#coins.batchFetchCoins.bind(this.#coins), batch, this.token);
  }

  fetchDevices(
    requests: readonly Partial<DeviceCoinsRequest>[],
    deadlineMs?: number,
  ): Promise<FetchDeviceCoinsResponse> {
    const request = { requests: requests.map((item) => DeviceCoinsRequest.create(item)) };
    return call(this.#coins.fetchDeviceCoins.bind(this.#coins), request, this.token, deadlineMs);
  }

  count(deviceId = ''): Promise<GetInventoryCountResponse> {
    return call(this.#coins.getInventoryCount.bind(this.#coins), { deviceId }, this.token);
  }

  async devices(): Promise<ListDevicesResponse['devices']> {
    return (await call(this.#coins.listDevices.bind(this.#coins), {}, this.token)).devices;
  }

  /** @returns the number of coins that were retired */
  async removeDevice(deviceId: string): Promise<number> {
    return (await call(this.#coins.removeDevice.bind(this.#coins), { deviceId }, this.token)).retiredCount;
  }

  reconcile(request: Partial<ReconcileCoinsRequest>): Promise<ReconcileCoinsResponse> {
    return call(this.#coins.reconcileCoins.bind(this.#coins), ReconcileCoinsRequest.create(request), this.token);
  }

  async purgeStale(maxAgeDays = 0): Promise<number> {
    const answer = await call(this.#admin.purgeStale.bind(this.#admin), { maxAgeDays }, this.token);
    return Number(answer.deletedCount);
  }

  async hardDelete(graceHours = 0): Promise<number> {
    const answer = await call(this.#admin.hardDeleteFetched.bind(this.#admin), { graceHours }, this.token);
    return Number(answer.deletedCount);
  }

  async deleteUser(userId: string, deadlineMs?: number): Promise<number> {
    const answer = await call(this.#admin.deleteUser.bind(this.#admin), { userId }, this.token, deadlineMs);
    return Number(answer.deletedCount);
  }

  close(): void {
    this.#coins.close();
    this.#admin.close();
  }
}

/** Connects an admin to a service that verifies tokens with the development key of its data folder. */
export async function developmentUser(dataDir: string, address: string, userId: string = randomUUID()): Promise<User> {
  const token = { userId, isAdmin: true, ttlSeconds: 600, now: new Date() };
  return new User(address, userId, await issueToken(developmentKey(dataDir).privateKey, token));
}
