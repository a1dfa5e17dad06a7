#!/usr/bin/env -S node --
// The dashes keep Node from taking --env-file for itself. `npx aqm`: npm links this file when it installs, before anything is built.
// Stack traces name the sources instead of dist/.
process.setSourceMapsEnabled(true);
require('../../../dist/services/coin/aqm.js');
