import type { DeviceStorage } from '../contract/device-storage';
import type { StorageOwner } from '../contract/owner';
import { isKeyId } from '../contract/validate';
import type { CoinServiceAccess } from './service-call';

/**
 * Rejects with WrongOwnerError, before anything is sent, if the token is that of another user or device than the
 * storage's. With `bind`, an unbound storage is bound to the token's.
 */
export async function requireOwner(
  storage: DeviceStorage,
  service: CoinServiceAccess,
  { bind }: { readonly bind: boolean },
): Promise<void> {
  const owner = await ownerOf(service);
  if (owner === null) return;
  if (bind) await storage.owner.bind(owner);
  else await storage.owner.check(owner);
}

/**
 * Reads `sub` and `device_id` of the token, whose signature is the service's business. Returns null if it is no JWT or
 * names no user, and if there is no token: the call that needs one says so.
 */
async function ownerOf({ token }: CoinServiceAccess): Promise<StorageOwner | null> {
  try {
    const [, payload = ''] = (await token()).split('.');
    const { sub, device_id: deviceId }: Record<string, unknown> = JSON.parse(
      Buffer.from(payload, 'base64url').toString('utf8'),
    );
    if (!isKeyId(sub)) return null;
    return isKeyId(deviceId) ? { userId: sub, deviceId } : { userId: sub };
  } catch {
    return null;
  }
}
