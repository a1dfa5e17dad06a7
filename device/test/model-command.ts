import { parseArgs } from 'node:util';
import { MODEL_BACKENDS } from './model-backends';
import { runModel } from './model-run';

/** `npm run model -- [--sequences N] [--seed S]`: prints one line for each backend; the shortest counterexample if any. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { sequences: { type: 'string', default: '2000' }, seed: { type: 'string' } },
  });
  const sequences = Number(values.sequences);
  const seed = values.seed === undefined ? undefined : Number(values.seed);
  if (!Number.isInteger(sequences) || sequences < 1) throw new TypeError('--sequences must be a whole number above 0');
  for (const create of MODEL_BACKENDS) {
    const backend = await create();
    try {
      const figures = await runModel(backend, { sequences, seed });
      process.stdout.write(`${backend.name}: ${JSON.stringify(figures)}\n`);
    } finally {
      await backend.destroy();
    }
  }
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
