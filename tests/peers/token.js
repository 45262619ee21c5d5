// The handshake's authentication, as small as it can be: an HS256 JWT in `Authorization: Bearer`.
import { createHmac, timingSafeEqual } from "node:crypto";

const secret = process.env.JWT_SECRET;
const audience = process.env.JWT_AUDIENCE;

// The party of a token, as in the subjects of its notices (`user.<id>`); undefined for a token that is not valid.
export function partyOf(authorization) {
  const [header, claims, signature] = (authorization ?? "").replace(/^Bearer /, "").split(".");
  if (!signature || JSON.parse(Buffer.from(header, "base64url")).alg !== "HS256") return undefined;
  const expected = createHmac("sha256", secret).update(`${header}.${claims}`).digest();
  const given = Buffer.from(signature, "base64url");
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
  const { sub, role, aud, exp } = JSON.parse(Buffer.from(claims, "base64url"));
  if (aud !== audience || exp * 1000 < Date.now() || !/^[A-Za-z0-9_-]{1,64}$/.test(sub)) return undefined;
  return `${role}.${sub}`;
}

export const welcome = JSON.stringify({ type: "welcome", payload: { sessionId: "peer", activeCall: null, heartbeatMs: 2000 } });
