/** Runs before the first paint, so that the theme does not flash. A classic script: modules run too late. */

import { applyTheme, storedTheme } from './preferences.ts';

applyTheme(storedTheme());
