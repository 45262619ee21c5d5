/** Shorthand for elements. Nothing here parses markup, so no message of the server can become markup. */

type Attributes = Readonly<Record<string, string>>;

export function el<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Changes only what differs: selections survive, and screen readers announce changes only. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) {
    node.textContent = text;
  }
}

export function setAttribute(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) {
    element.setAttribute(name, value);
  }
}

export function show(element: HTMLElement, isShown: boolean): void {
  if (element.hidden === isShown) {
    element.hidden = !isShown;
  }
}

/** A button with a test ID. */
export function button(testId: string, look: string, pressed: () => void): HTMLButtonElement {
  const element = el('button', { type: 'button', class: look, 'data-testid': testId });
  element.addEventListener('click', pressed);
  return element;
}
