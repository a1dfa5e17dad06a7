#!/usr/bin/env -S node --
// Without the dashes, Node itself would take --env-file, and read the file by other rules (cli/env-file.ts).
import './cli/require-node';
import { runCommandLine } from './cli/run-command-line';

void runCommandLine(process.argv.slice(2)).then((code) => {
  // A pipe may still hold output: the process ends when it is written. What has no reader any more needs no waiting.
  process.stdout.write('', () => process.exit(code));
});
