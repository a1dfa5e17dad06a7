// Before anything is loaded that an older Node cannot read, or dies of.
if (Number.parseInt(process.versions.node, 10) < 24) {
  console.error(
    `AQM needs Node 24 or newer; this is ${process.version}. Use the npm scripts, which bring their own Node 24.`,
  );
  process.exit(1);
}
