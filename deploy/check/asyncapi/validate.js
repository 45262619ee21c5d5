// Validates an AsyncAPI document with the rules of AsyncAPI's parser, and prints what breaks them.
import { readFileSync } from 'node:fs';

import parserPackage from '@asyncapi/parser';

const { Parser, DiagnosticSeverity } = parserPackage;
const [file] = process.argv.slice(2);
const { document, diagnostics } = await new Parser().parse(readFileSync(file, 'utf8'));
const errors = diagnostics.filter(({ severity }) => severity === DiagnosticSeverity.Error);
for (const { message, path } of errors) {
  console.error(`${file}: ${path.join('.')}: ${message}`);
}
if (document === undefined || errors.length > 0) {
  process.exit(1);
}
if (document.operations().all().length === 0) {
  console.error(`${file}: has no operation`);
  process.exit(1);
}
