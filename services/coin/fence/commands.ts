import { clearRetired } from '../store/clear-retired';
import type { Database } from '../store/database';
import { openAnew } from '../store/open-anew';
import { type Assessment, assess } from './assess';
import { markFolder, type Ring, readMark } from './mark';
import { NO_COIN } from './ring';

/** Exit code of a fenced database. */
const FENCED = 3;

export interface FencePlace {
  readonly fenceDir: string;
}

/** Prints how the database stands to its mark. Changes nothing. */
export async function fenceStatus(db: Database, place: FencePlace, flags: { readonly json: boolean }): Promise<number> {
  const { assessment, folder } = await look(db, place);
  const { life, rings, objection, unknownOpenings } = assessment;
  const status = {
    state: objection ? 'fenced' : 'open',
    reason: objection?.reason ?? null,
    explanation: objection?.sentence ?? null,
    epoch: life.epoch,
    opening: life.opening?.id ?? null,
    identity: life.identity,
    openedAs: life.opening?.identity ?? null,
    mark: { folder, rings, unknownOpenings },
  };
  if (flags.json) process.stdout.write(`${JSON.stringify(status)}\n`);
  else process.stdout.write(toText(status));
  return objection ? FENCED : 0;
}

/** Opens the database anew by an operator's decision. */
export async function decide(
  db: Database,
  place: FencePlace,
  kind: 'accepted' | 'retired',
  flags: { readonly 'even-if-open': boolean },
): Promise<number> {
  const { assessment, folder, rings } = await look(db, place);
  const { life, objection, unknownOpenings } = assessment;
  if (!objection && !flags['even-if-open']) {
    console.error(
      `Nothing is fenced by the mark in ${folder}, so there is nothing to decide. If you mean it, add --even-if-open.`,
    );
    return 1;
  }
  const void_ = new Set([...life.history].filter((opening) => opening !== life.opening?.id));
  const spent = rings
    .flatMap((ring) => ring.records)
    .filter((record) => record.keyId !== NO_COIN && !void_.has(record.opening));
  const { epoch, opening } = await openAnew(db, life, { kind, spent, lostOpenings: unknownOpenings });
  if (kind === 'accepted') {
    print(`accepted: the database opens as it is, epoch ${epoch}, opening ${opening}`);
    print(`${spent.length} coins in the mark are spent; others that were handed out since may be handed out again`);
    return 0;
  }
  print(`retired: all older stock is spent; epoch ${epoch} begins, opening ${opening}`);
  print('removing the key bytes of the retired coins; if this is stopped, the services do it within the hour');
  print(`removed those of ${await clearRetired(db)} coins`);
  return 0;
}

async function look(db: Database, { fenceDir }: FencePlace) {
  let folder = '';
  let rings: readonly Ring[] = [];
  const assessment: Assessment = await assess(db, (life) => {
    folder = markFolder(fenceDir, life);
    rings = readMark(folder);
    return rings;
  });
  return { assessment, folder, rings };
}

interface Status {
  state: string;
  explanation: string | null;
  epoch: string;
  opening: string | null;
  identity: Assessment['life']['identity'];
  openedAs: Assessment['life']['identity'] | null;
  mark: { folder: string } & Pick<Assessment, 'rings' | 'unknownOpenings'>;
}

function toText({ state, explanation, epoch, opening, identity, openedAs, mark }: Status): string {
  const name = (of: Status['openedAs']) =>
    of ? `cluster ${of.systemIdentifier}, database ${of.databaseOid}, timeline ${of.timeline}` : 'never';
  const lines = [
    `fence: ${state}${explanation ? `: ${explanation}` : ''}`,
    `epoch: ${epoch}`,
    `opening: ${opening ?? 'none yet'}`,
    `database: ${name(identity)}`,
    `opened as: ${name(openedAs)}`,
    `mark: ${mark.folder}`,
    ...mark.rings.map(({ file, records, missing }) => `  ${file}: ${records} coins, ${missing} of them missing`),
    ...mark.unknownOpenings.map((unknown) => `  unknown opening ${unknown}`),
  ];
  if (state === 'fenced') lines.push('what to do: "npm run admin -- fence" says what retire and accept mean');
  return `${lines.join('\n')}\n`;
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
