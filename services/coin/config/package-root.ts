/** Returns the folder of package.json, from the compiled file as from the source. */
export function packageRoot(): string {
  return __dirname.replace(/([\\/]dist)?[\\/]services[\\/]coin[\\/]config$/, '');
}
