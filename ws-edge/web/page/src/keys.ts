/** The page's keyboard shortcuts. The focused element takes precedence for keys that it handles. */

import type { Side } from './side.ts';

const TAKES_ENTER = 'a, button, input, textarea, select, summary';
const TAKES_LETTERS = 'input:not([type="radio"]), textarea, select';

export function listenToKeys(sides: readonly Side[]): void {
  document.addEventListener('keydown', (event) => {
    const hasModifier = event.ctrlKey || event.altKey || event.metaKey;
    if (event.defaultPrevented || event.isComposing || event.repeat || hasModifier) {
      return;
    }
    const target = event.target instanceof Element ? event.target : null;
    const focused = sides.find((side) => side.element.contains(target));
    // The focused side; without focus, the first side that handles the key.
    const meant = focused === undefined ? sides : [focused];
    if (event.key === 'Enter' && target?.closest(TAKES_ENTER) == null) {
      if (meant.some((side) => side.pressEnter())) {
        event.preventDefault();
      }
    } else if (event.key === 'Escape') {
      if (meant.some((side) => side.pressEscape())) {
        event.preventDefault();
      }
    } else if (event.key.toLowerCase() === 'm' && target?.closest(TAKES_LETTERS) == null) {
      focused?.pressMute();
    }
  });
}
