import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';

const USAGE = `Usage: npm run model [-- --sequences 2000] [--run NAME] [--seed S [--path P]]
  Tries random sequences of calls on both backends, and compares every answer with a model in memory or, in the run
  \`flows\`, checks the promises after each step. model.test.ts does so with fewer sequences, and names the runs. To
  repeat a failure, pass the --run, --seed and --path that it printed.`;

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
  if (!/^[1-9]\d*$/.test(sequences)) throw new TypeError('--sequences must be a whole number from 1');
  if (path !== '' && (run === '' || seed === '')) throw new TypeError('--path needs --run and --seed');
  const env = {
    ...process.env,
    MODEL_SEQUENCES: sequences,
    MODEL_RUN: run,
    MODEL_SEED: seed,
    MODEL_PATH: path,
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
