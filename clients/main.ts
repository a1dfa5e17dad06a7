import { randomUUID } from 'node:crypto';
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import { developmentKey, issueToken } from '../services/coin/identity/development-key';
import { spawnMain } from '../testkit/service-process';
import { buildExample, type Callers, EXPECTED, missingTools, runExample } from './example';
import { LANGUAGES, type Language } from './languages';

const USAGE = `Usage: npm run clients [-- [--all] [--address HOST:PORT [--data-dir .aqm]] [LANGUAGE…]]
  Generates, builds and runs the example of every language whose tools are installed. Starts a service for them, or uses a
  running "npm start" (given its address and the folder of its development key).
  Exit code 1 if an example fails; with --all also if the tools of a language are missing.`;

const OK = 'ok';

interface Row {
  readonly language: Language;
  readonly buildMs?: number;
  readonly runMs?: number;
  /** OK, or what went wrong. */
  readonly verdict: string;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    options: {
      all: { type: 'boolean', default: false },
      address: { type: 'string' },
      'data-dir': { type: 'string', default: process.env.AQM_DATA_DIR || '.aqm' },
      help: { type: 'boolean', default: false },
    },
    allowPositionals: true,
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const named = positionals.map((name) => {
    const language = LANGUAGES.find(({ folder }) => folder === name.toLowerCase());
    if (!language)
      throw new Error(`No example is called ${name}: there are ${LANGUAGES.map((l) => l.folder).join(', ')}.`);
    return language;
  });
  const languages = named.length > 0 ? named : LANGUAGES;

  const missing = new Map(languages.map((language) => [language, missingTools(language)]));
  const isFound = (language: Language) => missing.get(language)?.length === 0;
  const results = new Map<Language, Row>();
  if (languages.some(isFound)) {
    const service = values.address === undefined ? await ownService() : running(values.address, values['data-dir']);
    try {
      for (const language of languages.filter(isFound)) {
        results.set(language, await tryExample(language, await newCallers(service)));
      }
    } finally {
      await service.stop();
    }
  }
  const notFound = (language: Language): Row => ({
    language,
    verdict: `not found: ${missing.get(language)?.join(', ')}`,
  });
  process.stdout.write(table(languages.map((language) => results.get(language) ?? notFound(language))));
  const hasFailed = [...results.values()].some(({ verdict }) => verdict !== OK);
  return hasFailed || (values.all && !languages.every(isFound)) ? 1 : 0;
}

interface Service {
  readonly address: string;
  /** The folder of its development key. */
  readonly dataDir: string;
  stop(): Promise<unknown>;
}

async function ownService(): Promise<Service> {
  return spawnMain(mkdtempSync(join(tmpdir(), 'aqm-clients-')), { AQM_LOG_LEVEL: 'error' });
}

function running(address: string, folder: string): Service {
  const dataDir = resolve(folder);
  // In a new folder developmentKey() would create a key that no running service knows.
  if (!existsSync(dataDir)) throw new Error(`${dataDir} is no data folder of a running service. ${USAGE}`);
  return { address, dataDir, stop: async () => undefined };
}

/** Creates tokens of two new users, whose stock is empty. */
async function newCallers({ address, dataDir }: Service): Promise<Callers> {
  const { privateKey } = developmentKey(dataDir);
  const user = async () => {
    const id = randomUUID();
    return {
      id,
      token: await issueToken(privateKey, { userId: id, isAdmin: false, ttlSeconds: 3600, now: new Date() }),
    };
  };
  return { address, owner: await user(), requester: await user() };
}

async function tryExample(language: Language, callers: Callers): Promise<Row> {
  console.error(`${language.name} …`);
  const begin = performance.now();
  let built = Number.NaN;
  try {
    await buildExample(language);
    built = performance.now();
    const printed = await runExample(language, callers);
    const times = { buildMs: built - begin, runMs: performance.now() - built };
    if (isDeepStrictEqual(printed, EXPECTED)) return { language, ...times, verdict: OK };
    return { language, ...times, verdict: `printed ${JSON.stringify(printed)} instead of ${JSON.stringify(EXPECTED)}` };
  } catch (error) {
    console.error(error);
    return { language, verdict: Number.isNaN(built) ? 'does not build' : 'does not run' };
  }
}

function table(rows: readonly Row[]): string {
  const seconds = (ms: number | undefined) => (ms === undefined ? '' : (ms / 1000).toFixed(1)).padStart(9);
  const line = (name: string, tool: string, build: string, run: string, verdict: string) =>
    `${name.padEnd(12)}${tool.padEnd(32)}${build}${run}  ${verdict}\n`;
  return [
    line('language', 'generated by', '  build s', '    run s', 'verdict'),
    ...rows.map(({ language, buildMs, runMs, verdict }) =>
      line(language.name, language.tool, seconds(buildMs), seconds(runMs), verdict),
    ),
  ].join('');
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(error instanceof Error ? error.message : error);
    process.exit(2);
  },
);
