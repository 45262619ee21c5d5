/** The claims of a token, for display only: the server verifies them. */

export interface Claims {
  readonly sub: string;
  readonly role: string;
}

/** The claims of a JWT; null if it is not one. */
export function readClaims(token: string): Claims | null {
  const [, body, signature, ...rest] = token.split('.');
  if (body === undefined || signature === undefined || rest.length > 0) {
    return null;
  }
  try {
    const base64 = body.replaceAll('-', '+').replaceAll('_', '/');
    const claims: unknown = JSON.parse(atob(base64));
    if (typeof claims !== 'object' || claims === null || !('sub' in claims) || !('role' in claims)) {
      return null;
    }
    return { sub: String(claims.sub), role: String(claims.role) };
  } catch {
    return null;
  }
}
