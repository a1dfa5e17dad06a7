import { askService, type ServiceState } from '../ask-service';
import { checkService } from '../doctor/service';
import type { RingCount, Verification } from '../fence/verify';
import { type CommandDefinition, type JsonOption, jsonOption, print } from './command';
import { EXIT } from './exit-codes';
import { inspect, WHICH_WATERMARK } from './fence';
import { withDatabase } from './with-database';

export const command: CommandDefinition = {
  define: (command) => command.addOption(jsonOption()),
  details: `Verifies the database as a service does at its start, and asks the service that listens at AQM_LISTEN on
this machine, which alone knows that its database was exchanged (OTHER_DATABASE). Changes nothing.

${WHICH_WATERMARK}`,
  exitCodes: {
    [EXIT.OK]: 'the database is open, and the service on this machine is not fenced for another reason',
    [EXIT.STATE]: 'the database is fenced: "aqm admin fence retire" or "accept", or mend AQM_FENCE_DIR',
  },
  run: (options: JsonOption) =>
    withDatabase(async (db, config) => {
      const { verification, folder, problem, fenceReason } = await inspect(db, config);
      const { state, unknownActivations } = verification;
      const rings = verification.rings.map((ring, index) => {
        const writeTime = verification.ringRecords[index]?.writeTime ?? 0;
        return { ...ring, lastWriteTime: new Date(writeTime).toISOString() };
      });
      const service = (await askService(config).catch(() => undefined)) ?? null;
      const isElsewhere = service?.fenceReason === 'OTHER_DATABASE';
      const status = {
        state: fenceReason ? 'fenced' : 'open',
        reason: fenceReason?.reason ?? null,
        explanation: fenceReason?.sentence ?? null,
        epoch: state.epoch,
        activation: state.activation?.id ?? null,
        identity: state.identity,
        activatedAs: state.activation?.identity ?? null,
        watermark: { folder, problem: problem?.message ?? null, rings, unknownActivations },
        service,
      };
      print(options, status, toLines(status));
      return fenceReason || isElsewhere ? EXIT.STATE : EXIT.OK;
    }),
};

/** One line about the answer of the service on this machine. */
function sentenceOf(service: ServiceState): string {
  const { verdict, found, advice } = checkService(service);
  return verdict === 'fail' && service.fenceReason === 'OTHER_DATABASE' ? `${found}; ${advice}` : found;
}

interface Status {
  state: string;
  reason: string | null;
  explanation: string | null;
  epoch: string;
  activation: string | null;
  identity: Verification['state']['identity'];
  activatedAs: Verification['state']['identity'] | null;
  watermark: {
    folder: string;
    problem: string | null;
    rings: readonly (RingCount & { lastWriteTime: string })[];
    unknownActivations: readonly string[];
  };
  /** The answer of the service on this machine; null where its address is not known. */
  service: ServiceState | null;
}

function toLines({
  state,
  reason,
  explanation,
  epoch,
  activation,
  identity,
  activatedAs,
  watermark,
  service,
}: Status): string[] {
  const name = (of: Status['activatedAs']) =>
    of ? `cluster ${of.systemIdentifier}, database ${of.databaseOid}, timeline ${of.timeline}` : 'never';
  return [
    `fence: ${state}${explanation ? `: ${explanation}` : ''}`,
    `epoch: ${epoch}`,
    `activation: ${activation ?? 'none yet'}`,
    `database: ${name(identity)}`,
    `activated as: ${name(activatedAs)}`,
    `watermark: ${watermark.folder}`,
    ...(watermark.problem ? [`  no new file can be written: ${watermark.problem}`] : []),
    ...watermark.rings.map(
      ({ file, records, missing, lastWriteTime }) =>
        `  ${file}: ${records} coins, ${missing} of them missing; last written ${lastWriteTime}`,
    ),
    ...watermark.unknownActivations.map((unknown) => `  unknown activation ${unknown}`),
    ...(service ? [`service: ${sentenceOf(service)}`] : []),
    ...(reason !== null && reason !== 'WATERMARK_UNUSABLE'
      ? ['what to do: "aqm admin fence retire --help" and "aqm admin fence accept --help"']
      : []),
  ];
}
