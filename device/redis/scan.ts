import type { Connection } from './connection';
import { listIn, textIn } from './reply';

/** The number of keys that one step of SCAN examines. */
const SCAN_COUNT = 500;

/** Lists the keys that match a pattern, in batches. May repeat a key. */
export async function* scan(connection: Connection, pattern: string): AsyncGenerator<string[]> {
  let cursor = '0';
  do {
    const [next, keys] = listIn(await connection.call('scan', cursor, 'match', pattern, 'count', SCAN_COUNT));
    cursor = textIn(next);
    yield listIn(keys).map(textIn);
  } while (cursor !== '0');
}
