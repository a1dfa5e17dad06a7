import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';

const USAGE = `Usage: npm run model [-- --sequences 2000] [--run NAME] [--seed S [--path P]]
  The long form of model.test.ts: random sequences of calls against both backends and a model in memory. --run, --seed and
  --path repeat what a failure printed.`;

function main(): void {
  const { values } = parseArgs({
    options: {
      sequences: { type: 'string', default: '2000' },
      run: { type: 'string', default: '' },
      seed: { type: 'string', default: '' },
      path: { type: 'string', default: '' },
    },
  });
  const { sequences, run, seed, path } = values;
  if (!/^[1-9]\d*$/.test(sequences)) throw new TypeError('--sequences must be a whole number above 0');
  if (path !== '' && (run === '' || seed === '')) throw new TypeError('--path needs --run and --seed');
  const env = {
    ...process.env,
    AQM_MODEL_SEQUENCES: sequences,
    AQM_MODEL_RUN: run,
    AQM_MODEL_SEED: seed,
    AQM_MODEL_PATH: path,
  };
  const child = spawn('jest', ['device/test/model/model.test'], { stdio: 'inherit', env });
  child.on('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}

try {
  main();
} catch (error) {
  console.error(`${(error as Error).message}\n${USAGE}`);
  process.exitCode = 1;
}
