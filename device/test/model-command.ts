import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';

/** `npm run model -- [--sequences N] [--seed S]`: the long form of model.test.ts. */
function main(): void {
  const { values } = parseArgs({
    options: { sequences: { type: 'string', default: '2000' }, seed: { type: 'string' } },
  });
  const { sequences, seed } = values;
  if (!/^[1-9]\d*$/.test(sequences)) throw new TypeError('--sequences must be a whole number above 0');
  const env = {
    ...process.env,
    AQM_MODEL_SEQUENCES: sequences,
    ...(seed === undefined ? {} : { AQM_MODEL_SEED: seed }),
  };
  const child = spawn('jest', ['device/test/model'], { stdio: 'inherit', env });
  child.on('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}

main();
