#!/usr/bin/env node
import './cli/require-node';
import { runCommandLine } from './cli/run-command-line';

void runCommandLine(process.argv.slice(2)).then((code) => process.exit(code));
