/** Builds the operations page, which shares the call page's icon and theme script. */

import { join } from 'node:path';

import { bundle } from '../../bundle.ts';

await bundle({
  folder: join(import.meta.dirname, '..'),
  html: 'ops.html',
  scripts: { ops: 'src/main.ts' },
  styles: { ops: 'style/ops.css' },
});
