/** Runs before the first paint, so that a chosen theme does not flash. A plain script: modules come too late. */

import { applyTheme, storedTheme } from './preferences.ts';

applyTheme(storedTheme());
