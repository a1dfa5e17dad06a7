#!/usr/bin/env node
// `npx aqm`: npm links this file when it installs, before anything is built.
require('../../../dist/services/coin/aqm.js');
