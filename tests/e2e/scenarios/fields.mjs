// Fields of people beyond those that the official client knows by itself, and the keys that tokens are verified with.
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { inferAdditionalFields } from 'better-auth/client/plugins';
import { createLocalJWKSet, jwtVerify } from 'jose';
import { Browser } from '../browser.mjs';
import { assertRefused, clientIn, good, signIn } from '../clients.mjs';
import { newPerson, registerAndVerify } from '../people.mjs';

const FIELDS = inferAdditionalFields({
  user: { accessTier: { type: 'string', input: false }, locale: { type: 'string', required: false } },
});

export function fields(world) {
  it('people choose their language, and nobody their own tier', async () => {
    const auth = clientIn(new Browser(), world.service.baseUrl, FIELDS);
    const person = newPerson();
    const { user } = good(await auth.signUp.email({ ...person, locale: 'en', accessTier: 'founder' }));
    assert.deepEqual([user.accessTier, user.locale], ['public', 'en']);
    assert.equal((await world.mail.take(person.email)).subject, 'Confirm your email — Mana');

    const registered = await registerAndVerify(world);
    const { auth: own } = await signIn(world, registered, FIELDS);
    assertRefused(await own.updateUser({ accessTier: 'founder' }), 400, 'FIELD_NOT_ALLOWED');
    good(await own.updateUser({ locale: 'en' }));
    const session = good(await own.getSession());
    assert.deepEqual([session.user.accessTier, session.user.locale], ['public', 'en']);
  });

  it('a tier that the operator gives is in the session and in tokens that verify with the client\'s keys', async () => {
    const person = await registerAndVerify(world);
    const { auth } = await signIn(world, person, FIELDS);
    await world.service.command('user', 'set-tier', person.email, 'beta');
    assert.equal(good(await auth.getSession()).user.accessTier, 'beta');
    const { token } = good(await auth.token());
    const keys = createLocalJWKSet(good(await auth.jwks()));
    const { payload } = await jwtVerify(token, keys, { issuer: world.service.baseUrl, audience: 'mana' });
    assert.deepEqual([payload.sub, payload.tier], [person.id, 'beta']);
  });
}
