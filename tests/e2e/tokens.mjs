// What other services do with an access token: verify it with jose against the published keys.
import assert from 'node:assert/strict';
import { createRemoteJWKSet, customFetch, jwtVerify } from 'jose';

const TEN_MINUTES_MS = 600_000;

/** A verifier that keeps the keys for ten minutes, whatever key id it meets; `fetches()` counts its look-ups. */
export function caching(baseUrl, path = '/api/auth/jwks') {
  let fetches = 0;
  const keys = createRemoteJWKSet(new URL(path, baseUrl), {
    cacheMaxAge: TEN_MINUTES_MS,
    cooldownDuration: TEN_MINUTES_MS,
    [customFetch]: (...args) => {
      fetches += 1;
      return fetch(...args);
    },
  });
  return {
    verify: (jwt) => jwtVerify(jwt, keys, { issuer: baseUrl, audience: 'mana', algorithms: ['EdDSA'] }),
    fetches: () => fetches,
  };
}

/** Checks an access token as a service would, and that it carries exactly what the contract names. */
export async function assertAccessToken(baseUrl, jwt, { userId, email, sessionId }) {
  for (const path of ['/api/auth/jwks', '/api/v1/auth/jwks']) {
    const { payload, protectedHeader } = await caching(baseUrl, path).verify(jwt);
    assert.deepEqual(Object.keys(protectedHeader).sort(), ['alg', 'kid']);
    const { iat, exp, ...claims } = payload;
    assert.deepEqual(claims, {
      sub: userId, email, role: 'user', sid: sessionId, iss: baseUrl, aud: 'mana',
    });
    assert.equal(exp - iat, 900);
  }
}
