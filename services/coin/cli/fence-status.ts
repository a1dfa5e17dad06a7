import type { Assessment } from '../fence/verify';
import { type Command, JSON_OPTION, print } from './command';
import { EXIT } from './exit-codes';
import { look, WHICH_MARK } from './fence';
import { withDatabase } from './with-database';

export const command: Command = {
  options: JSON_OPTION,
  details: `Changes nothing.\n\n${WHICH_MARK}`,
  exitCodes: { [EXIT.OK]: 'the database is open', [EXIT.STATE]: 'it is fenced: "aqm admin fence retire" or "accept"' },
  run: (args) =>
    withDatabase(async (db, config) => {
      const { assessment, folder } = await look(db, config);
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
      print(args, status, toLines(status));
      return objection ? EXIT.STATE : EXIT.OK;
    }),
};

interface Status {
  state: string;
  explanation: string | null;
  epoch: string;
  opening: string | null;
  identity: Assessment['life']['identity'];
  openedAs: Assessment['life']['identity'] | null;
  mark: { folder: string } & Pick<Assessment, 'rings' | 'unknownOpenings'>;
}

function toLines({ state, explanation, epoch, opening, identity, openedAs, mark }: Status): string[] {
  const name = (of: Status['openedAs']) =>
    of ? `cluster ${of.systemIdentifier}, database ${of.databaseOid}, timeline ${of.timeline}` : 'never';
  return [
    `fence: ${state}${explanation ? `: ${explanation}` : ''}`,
    `epoch: ${epoch}`,
    `opening: ${opening ?? 'none yet'}`,
    `database: ${name(identity)}`,
    `opened as: ${name(openedAs)}`,
    `mark: ${mark.folder}`,
    ...mark.rings.map(({ file, records, missing }) => `  ${file}: ${records} coins, ${missing} of them missing`),
    ...mark.unknownOpenings.map((unknown) => `  unknown opening ${unknown}`),
    ...(state === 'fenced' ? ['what to do: "aqm admin fence retire --help" and "aqm admin fence accept --help"'] : []),
  ];
}
