import { startService, type TestService } from '../../testkit/service';
import { buildExample, EXPECTED, missingTools, runExample } from '../example';
import { LANGUAGES, type Language } from '../languages';
import { FaultyProxy, type Refusal } from './faulty-proxy';

/** A first build downloads everything from the language's package registry. In milliseconds. */
const BUILD_MS = 1_800_000;

const PAUSES_MS = [1000, 2000, 3000, 4000];

/** Times of the attempts of one call, one line for each language and answer. */
const table: string[] = [];

const found = process.env.CI ? LANGUAGES : LANGUAGES.filter((language) => missingTools(language).length === 0);
let service: TestService;
beforeAll(async () => {
  service = await startService();
});
afterAll(async () => {
  await service.stop();
  process.stderr.write(
    `\nSeconds between the attempts of one call that is answered UNAVAILABLE:\n${table.join('\n')}\n`,
  );
});

/** Runs an example whose first fetch is refused so often. Returns the pauses between its attempts, in milliseconds. */
async function pausesOf(language: Language, what: string, refusals: readonly Refusal[]) {
  const [owner, requester] = await Promise.all([service.user(), service.user()]);
  const proxy = await FaultyProxy.open(service.address, { calls: { FetchDeviceCoins: refusals } });
  try {
    const printed = await runExample(language, { address: proxy.address, owner, requester }).catch(() => undefined);
    const times = proxy.of('FetchDeviceCoins').map(({ atMs }) => atMs);
    const attempts = times.slice(0, refusals.length + 1);
    const pauses = attempts.slice(1).map((atMs, index) => atMs - (attempts[index] ?? 0));
    const seconds = pauses.map((ms) => (ms / 1000).toFixed(2)).join(', ') || 'no repeat';
    table.push(`${language.name.padEnd(12)}${what.padEnd(40)}${seconds}`);
    return { printed, pauses };
  } finally {
    proxy.close();
  }
}

describe.each(found)('the example in $name, with the service config of the contract', (language) => {
  beforeAll(() => buildExample(language), BUILD_MS);

  test('waits as long as the service asks for, before each attempt', async () => {
    const refusals = PAUSES_MS.map((retryAfterMs) => ({ retryAfterMs }));
    const { printed, pauses } = await pausesOf(language, 'RetryInfo and pushback of 1, 2, 3, 4 s', refusals);
    expect(printed).toEqual(EXPECTED);
    expect(pauses).toHaveLength(PAUSES_MS.length);
    for (const [index, pause] of pauses.entries()) expect(pause).toBeGreaterThanOrEqual(PAUSES_MS[index] ?? 0);
  });

  test('makes five attempts of its own accord if the service asks for no time', async () => {
    const refusals = PAUSES_MS.map((retryAfterMs) => ({ retryAfterMs, pushback: undefined }));
    const { printed, pauses } = await pausesOf(language, 'RetryInfo alone', refusals);
    expect(printed).toEqual(EXPECTED);
    expect(pauses).toHaveLength(PAUSES_MS.length);
  });

  test('does not repeat a call when the service says that it is no use', async () => {
    const { printed, pauses } = await pausesOf(language, 'pushback of -1', [{ retryAfterMs: 0, pushback: '-1' }]);
    expect(printed).toBeUndefined();
    expect(pauses).toHaveLength(0);
  });
});
