// Which pages of other origins may read answers (contract mana-v1, section 1.2).
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { APP_ORIGIN } from '../service.mjs';

const PATHS = ['/api/auth/get-session', '/api/v1/auth/session'];
const FOREIGN_ORIGIN = 'http://foreign.example.test';

/** The items of a header that is a list, in lower case. */
function list(response, name) {
  return (response.headers.get(name) ?? '').toLowerCase().split(',').map((item) => item.trim()).filter(Boolean);
}

function assertIncludes(actual, expected) {
  for (const item of expected) assert.ok(actual.includes(item), `${item} is in ${actual}`);
}

export function cors(world) {
  for (const path of PATHS) {
    const ask = (origin) => fetch(world.service.baseUrl + path, { headers: { origin } });
    const preflight = (origin) => fetch(world.service.baseUrl + path, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' },
    });

    it(`${path} lets an allowed origin read the answer`, async () => {
      // The second one stands after a comma and a space in the settings.
      for (const origin of [APP_ORIGIN, 'http://other.example.test']) {
        const answer = await ask(origin);
        assert.equal(answer.status, 200);
        assert.equal(answer.headers.get('access-control-allow-origin'), origin);
        assert.equal(answer.headers.get('access-control-allow-credentials'), 'true');
        assertIncludes(list(answer, 'vary'), ['origin']);
        assertIncludes(list(answer, 'access-control-expose-headers'), [
          'set-cookie', 'set-auth-token', 'set-auth-jwt', 'content-disposition', 'retry-after',
        ]);
      }
    });

    it(`${path} answers a preflight of an allowed origin`, async () => {
      const answer = await preflight(APP_ORIGIN);
      assert.equal(answer.status, 204);
      assert.equal(answer.headers.get('access-control-allow-origin'), APP_ORIGIN);
      assert.equal(answer.headers.get('access-control-allow-credentials'), 'true');
      assertIncludes(list(answer, 'vary'), ['origin', 'access-control-request-headers']);
      assertIncludes(list(answer, 'access-control-allow-methods'), ['get', 'head', 'put', 'post', 'delete', 'patch']);
      assertIncludes(list(answer, 'access-control-allow-headers'), ['content-type', 'authorization', 'x-service-key', 'x-app-id']);
      assert.equal(answer.headers.get('access-control-max-age'), null);
    });

    it(`${path} serves a foreign origin without letting it read`, async () => {
      const answer = await ask(FOREIGN_ORIGIN);
      assert.equal(answer.status, 200);
      assert.equal(answer.headers.get('access-control-allow-origin'), null);
      assertIncludes(list(answer, 'vary'), ['origin']);
      assert.equal((await preflight(FOREIGN_ORIGIN)).headers.get('access-control-allow-origin'), null);
    });
  }
}
