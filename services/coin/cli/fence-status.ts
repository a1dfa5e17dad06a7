import type { Verification } from '../fence/verify';
import { type Command, JSON_OPTION, print } from './command';
import { EXIT } from './exit-codes';
import { look, WHICH_WATERMARK } from './fence';
import { withDatabase } from './with-database';

export const command: Command = {
  options: JSON_OPTION,
  details: `Changes nothing.\n\n${WHICH_WATERMARK}`,
  exitCodes: { [EXIT.OK]: 'the database is open', [EXIT.STATE]: 'it is fenced: "aqm admin fence retire" or "accept"' },
  run: (args) =>
    withDatabase(async (db, config) => {
      const { assessment, folder } = await look(db, config);
      const { life, rings, fenceReason, unknownOpenings } = assessment;
      const status = {
        state: fenceReason ? 'fenced' : 'open',
        reason: fenceReason?.reason ?? null,
        explanation: fenceReason?.sentence ?? null,
        epoch: life.epoch,
        opening: life.opening?.id ?? null,
        identity: life.identity,
        openedAs: life.opening?.identity ?? null,
        mark: { folder, rings, unknownOpenings },
      };
      print(args, status, toLines(status));
      return fenceReason ? EXIT.STATE : EXIT.OK;
    }),
};

interface Status {
  state: string;
  explanation: string | null;
  epoch: string;
  opening: string | null;
  identity: Verification['life']['identity'];
  openedAs: Verification['life']['identity'] | null;
  mark: { folder: string } & Pick<Verification, 'rings' | 'unknownOpenings'>;
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
