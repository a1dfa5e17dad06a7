import type { FinalTables, History, Millis, Rules, UploadCall } from '../history';
import { categoryName, deviceName, type Request, type Take } from './requests';

/** The life of one coin during the run. */
export interface CoinLife {
  readonly userId: string;
  readonly keyId: string;
  /** The device that uploaded it first. */
  readonly deviceId: string;
  readonly category: number;
  /** The first upload that contained it, and its position there. */
  readonly uploadId: number;
  readonly position: number;
  /** It was stored between `uploadStart` and `uploadEnd`. The latter is infinite if no upload acknowledged it. */
  readonly uploadStart: Millis;
  uploadEnd: Millis;
  /** The time at which the service stops handing it out. */
  handOutEnd: Millis;
  /** Its uploads by its device. */
  readonly uploads: { call: UploadCall; position: number; outcome: string | undefined }[];
  /** Its uploads by other devices of the user, which must not store it. */
  readonly strays: { call: UploadCall; outcome: string | undefined }[];
  /** The hand-outs of the coin. More than one is a violation. */
  readonly takes: Take[];
  /** The state of the coin in the tables after the last call. */
  atEnd: 'in stock' | 'spent' | 'gone';
  /** True if its key bytes are gone at the end. */
  isBlank: boolean;
}

/** The upload outcomes after which a coin is, or was a moment ago, in stock. */
export const STOCKED = ['INSERTED', 'ALREADY_PRESENT'];

export function coinKey(userId: string, keyId: string): string {
  return `${userId} ${keyId}`;
}

export function describeCoin(coin: CoinLife): string {
  return `${categoryName(coin.category)} ${coin.keyId} of ${deviceName(coin.userId, coin.deviceId)}`;
}

/**
 * True if `a` was certainly stored before `b`: by an upload that had ended, or at an earlier position in every upload
 * that may have stored both.
 */
export function isBefore(a: CoinLife, b: CoinLife): boolean {
  if (a.uploadEnd < b.uploadStart) return true;
  if (a.uploadId !== b.uploadId || a.uploadEnd !== b.uploadEnd) return false;
  const [ofA, ofB] = [a, b].map((coin) => coin.uploads.filter(({ call }) => call.start < coin.uploadEnd));
  return (
    ofA?.length === ofB?.length &&
    ofA?.every((upload, index) => upload.call === ofB?.[index]?.call && upload.position < ofB[index].position) === true
  );
}

/** True if more than one upload inserted the coin, so that its position in the queue is unknown. */
export function isReinserted(coin: CoinLife): boolean {
  return coin.uploads.filter(({ outcome }) => outcome === 'INSERTED').length > 1;
}

/** Returns the time before which the coin was certainly available. */
export function staysUntil(coin: CoinLife, rules: Rules): Millis {
  const taken = Math.min(...coin.takes.map((take) => take.from));
  const unknown = coin.takes.length === 0 && coin.atEnd !== 'in stock' ? Number.NEGATIVE_INFINITY : taken;
  // A purged coin was no longer handed out. A coin that vanished otherwise is the concern of the check of conservation.
  if (coin.atEnd === 'gone' && coin.takes.length === 0) return coin.handOutEnd - rules.skewMs;
  return Math.min(unknown, coin.handOutEnd - rules.skewMs);
}

/**
 * Reconstructs the life of every coin that was uploaded. `appeared` describes coins that were handed out or are in the
 * tables without an upload.
 */
export function followCoins(
  history: History,
  requests: readonly Request[],
  final: FinalTables,
): { coins: Map<string, CoinLife>; appeared: string[] } {
  const coins = new Map<string, CoinLife>();
  const appeared: string[] = [];
  const uploads = history.calls.filter((call) => call.kind === 'upload').sort((a, b) => a.start - b.start);
  for (const call of uploads) {
    call.coins.forEach((given, position) => {
      const key = coinKey(call.userId, given.keyId);
      let coin = coins.get(key);
      if (!coin) {
        coin = {
          userId: call.userId,
          keyId: given.keyId,
          deviceId: call.deviceId,
          category: given.category,
          uploadId: call.call,
          position,
          uploadStart: call.start,
          uploadEnd: Number.POSITIVE_INFINITY,
          handOutEnd: given.handOutEnd ?? Number.POSITIVE_INFINITY,
          uploads: [],
          strays: [],
          takes: [],
          atEnd: 'gone',
          isBlank: false,
        };
        coins.set(key, coin);
      }
      const outcome = call.outcomes?.[position];
      if (call.isMismatched || coin.deviceId !== call.deviceId) {
        coin.strays.push({ call, outcome });
        return;
      }
      coin.uploads.push({ call, position, outcome });
      if (outcome !== undefined && STOCKED.includes(outcome)) coin.uploadEnd = Math.min(coin.uploadEnd, call.end);
    });
  }
  for (const request of requests) {
    for (const take of request.takes) {
      for (const { keyId } of take.coins) {
        const coin = coins.get(coinKey(request.item.targetUserId, keyId));
        if (coin) coin.takes.push(take);
        else appeared.push(`coin ${keyId} was never uploaded, but was the answer to ${request.name}`);
      }
    }
  }
  for (const row of final.coins) {
    const coin = coins.get(coinKey(row.userId, row.keyId));
    if (coin) {
      coin.atEnd = row.inStock ? 'in stock' : 'spent';
      coin.isBlank = row.isBlank;
    } else appeared.push(`coin ${row.keyId} of ${row.userId} is in the tables, but was never uploaded`);
  }
  return { coins, appeared };
}
