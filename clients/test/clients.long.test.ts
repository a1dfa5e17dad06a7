import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../testkit/root';
import { startService, type TestService } from '../../testkit/service';
import { buildExample, EXPECTED, missingTools, runExample } from '../example';
import { LANGUAGES, type Language } from '../languages';
import { type Faults, FaultyProxy, RETRY_AFTER_MS } from './faulty-proxy';

/** A first build downloads everything from the language's package registry. In milliseconds. */
const BUILD_MS = 1_800_000;

/** CI has the tools of all languages; elsewhere `npm run clients` names those that are missing. */
const found = process.env.CI ? LANGUAGES : LANGUAGES.filter((language) => missingTools(language).length === 0);

let service: TestService;

beforeAll(async () => {
  service = await startService();
});
afterAll(() => service.stop());

/** A copy of proto/ and clients/, and the environment of its builds. */
interface Checkout {
  readonly root: string;
  readonly env: NodeJS.ProcessEnv;
}

interface Run {
  readonly printed: unknown;
  readonly proxy: FaultyProxy;
}

async function runThrough(language: Language, faults: Faults, from?: Checkout): Promise<Run> {
  const [owner, requester] = await Promise.all([service.user(), service.user()]);
  const proxy = await FaultyProxy.open(service.address, faults);
  try {
    const callers = { address: proxy.address, owner, requester };
    return { printed: await runExample(language, callers, from?.root, from?.env), proxy };
  } finally {
    proxy.close();
  }
}

describe.each(found)('the example in $name', (language) => {
  test(
    'is generated straight from proto/, and uploads, fetches and counts',
    async () => {
      await buildExample(language);
      expect((await runThrough(language, {})).printed).toEqual(EXPECTED);
    },
    BUILD_MS,
  );

  test('survives refused connections and lost replies: its repeats get the same coins', async () => {
    const { printed, proxy } = await runThrough(language, {
      refusedConnections: 2,
      calls: { UploadCoins: ['reply-lost'], FetchDeviceCoins: ['reply-lost', 'unavailable', 'too-late'] },
    });
    // Four of six coins left the stock, however often they were requested: one of each device is left.
    expect(printed).toEqual(EXPECTED);
    expect(proxy.connections).toBeGreaterThan(2);
    expect(proxy.of('UploadCoins')).toHaveLength(3);

    // The first fetch four times, and the example's deliberate repeat of it.
    const fetches = proxy.of('FetchDeviceCoins');
    const [first, unavailable, next] = fetches;
    expect(fetches).toHaveLength(5);
    for (const { request } of fetches) expect(request).toEqual(first?.request);
    // The service asked for a pause. A busy machine makes it longer, never shorter.
    expect((next?.atMs ?? 0) - (unavailable?.atMs ?? 0)).toBeGreaterThanOrEqual(RETRY_AFTER_MS);
  });

  test('passes over fields and error details that it does not know', async () => {
    const { printed, proxy } = await runThrough(language, {
      addsFields: true,
      calls: { FetchDeviceCoins: ['unavailable'] },
    });
    expect(printed).toEqual(EXPECTED);
    const [unavailable, next] = proxy.of('FetchDeviceCoins');
    expect((next?.atMs ?? 0) - (unavailable?.atMs ?? 0)).toBeGreaterThanOrEqual(RETRY_AFTER_MS);
  });
});

describe('after fields were added to the contract', () => {
  let later: Checkout;

  beforeAll(() => {
    const root = mkdtempSync(join(tmpdir(), 'aqm-added-fields-'));
    const isSource = (path: string) => !/[\\/](build|gen|target|node_modules)$/.test(path);
    for (const folder of ['proto', 'clients']) {
      cpSync(join(ROOT, folder), join(root, folder), { recursive: true, filter: isSource });
    }
    const folder = join(root, 'proto/aqm/coin/v1');
    for (const file of readdirSync(folder)) {
      const text = readFileSync(join(folder, file), 'utf8');
      const message = /^message \w+ \{$/gm;
      expect(text).toMatch(message);
      writeFileSync(join(folder, file), text.replace(message, '$&\n  string added_later = 1000;'));
    }
    // Cargo reuses its builds of other packages; the version keeps the two examples apart.
    const manifest = join(root, 'clients/rust/Cargo.toml');
    writeFileSync(manifest, readFileSync(manifest, 'utf8').replace('version = "0.0.0"', 'version = "0.0.1"'));
    later = { root, env: { CARGO_TARGET_DIR: join(ROOT, 'clients/rust/target') } };
  });
  afterAll(() => rmSync(later.root, { recursive: true, force: true }));

  test.each(found)(
    'the example in $name is generated again, compiles unchanged, and is answered by the present service',
    async (language) => {
      await buildExample(language, later.root, later.env);
      expect((await runThrough(language, {}, later)).printed).toEqual(EXPECTED);
    },
    BUILD_MS,
  );
});
