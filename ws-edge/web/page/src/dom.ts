/** Elements in few words. Nothing here reads markup from text, so nothing that the server says can become markup. */

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

/** Leaves what is the same alone: selections survive, and screen readers are told of changes only. */
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

/** A button by the name that tests know it by. */
export function button(testId: string, look: string, pressed: () => void): HTMLButtonElement {
  const element = el('button', { type: 'button', class: look, 'data-testid': testId });
  element.addEventListener('click', pressed);
  return element;
}
