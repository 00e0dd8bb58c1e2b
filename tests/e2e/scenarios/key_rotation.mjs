// Signing keys change under verifiers that look at the key set once in ten minutes.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { login, registerAndVerify } from '../people.mjs';
import { caching } from '../tokens.mjs';
import { eventually } from '../wait.mjs';

export function keyRotation(world) {
  const publishedKeys = async () => {
    const { keys } = await (await fetch(`${world.service.baseUrl}/api/auth/jwks`)).json();
    return keys.map((key) => key.kid);
  };

  it('tokens from before and after a rotation verify with keys cached before it', async () => {
    const person = await registerAndVerify(world);
    const verifier = caching(world.service.baseUrl);
    const { accessToken: before } = await login(world, person);
    const { protectedHeader: oldHeader } = await verifier.verify(before);
    const keysBefore = await publishedKeys();

    await world.service.command('keys', 'rotate');
    const { accessToken: rightAfter } = await login(world, person);
    assert.equal((await verifier.verify(rightAfter)).protectedHeader.kid, oldHeader.kid, 'the next key waits until verifiers know it');
    await verifier.verify(before);
    assert.equal(verifier.fetches(), 1);

    const keysAfter = await eventually('the next key to be published', async () => {
      const keys = await publishedKeys();
      return keys.length === keysBefore.length + 1 && keys;
    });
    assert.ok(keysBefore.every((kid) => keysAfter.includes(kid)), 'no key goes while its tokens live');
  });
}
